import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decoders.behavior import train
from decoders.behavior.evaluate import area_under_curve, best_threshold
from decoders.behavior.live import CausalBehavior
from decoders.protocols import LiveDecoder
from decoders.training import TrainingConfig
from rig.bouts import find_bouts, in_bouts
from rig.errors import CheckpointError, DataError
from rig.messages import Frame, FrameStream
from rig.simulation.mouse import Mouse
from rig.simulation.widefield import WidefieldCortex

RATE_HZ = 30.0
CAMERA = FrameStream("widefield", 128, 128, "uint16", RATE_HZ, 0.0)


def simulated(seed, seconds):
    """Frames of a mouse and whether it ran, labelled by the rule of the toolkit."""
    mouse, count = Mouse(seed, duration_s=120.0), int(seconds * RATE_HZ)
    cortex = WidefieldCortex(mouse, seed)
    speed_ns = np.arange(int(seconds * 100)) * 10_000_000
    bouts = find_bouts(speed_ns, mouse.running_speed_mm_s(speed_ns / 1e9), 10.0, 200_000_000, 500_000_000)
    running = in_bouts((np.arange(count) / RATE_HZ * 1e9).astype(np.int64), bouts)
    return [cortex.frame(k) for k in range(count)], running


def live(frames, camera=CAMERA, **settings):
    config = CausalBehavior.Config(decoder="causal", camera="widefield", **settings)
    decoder = CausalBehavior("behavior", config)
    described = decoder.load(camera)
    return described, np.array([decoder.step(Frame("widefield", k, -1, 0, f)) for k, f in enumerate(frames)])


@pytest.fixture(scope="module")
def mouse():
    return simulated(seed=9001, seconds=60)


def test_it_is_a_live_decoder():
    config = CausalBehavior.Config(decoder="causal", camera="widefield")
    assert isinstance(CausalBehavior("behavior", config), LiveDecoder)


def test_the_shipped_checkpoint_decodes_a_mouse_it_never_saw(mouse):
    frames, running = mouse
    described, probability = live(frames)
    assert described.shape == ()
    assert described.provenance["data"] == "simulated"
    known = ~np.isnan(probability)
    assert known.sum() == len(frames) - 90  # three seconds of warm-up
    assert not known[:90].any()
    assert ((probability[known] >= 0) & (probability[known] <= 1)).all()
    assert area_under_curve(probability[known], running[known]) > 0.85


def test_the_same_frames_give_the_same_bits(mouse):
    frames = mouse[0][:200]
    assert live(frames)[1].tobytes() == live(frames)[1].tobytes()


def test_no_future_frame_takes_part(mouse):
    frames = mouse[0][:200]
    changed = frames[:150] + [frame[::-1] for frame in frames[150:]]
    before, after = live(frames)[1], live(changed)[1]
    assert before[:150].tobytes() == after[:150].tobytes()
    assert (before[150:] != after[150:]).any()


def test_bigger_frames_are_binned(mouse):
    frames = mouse[0][:120]
    doubled = [np.repeat(np.repeat(frame, 2, 0), 2, 1) for frame in frames]
    camera = FrameStream("widefield", 256, 256, "uint16", RATE_HZ, 0.0)
    np.testing.assert_allclose(live(doubled, camera)[1], live(frames)[1], atol=1e-3)


def test_a_camera_that_does_not_fit():
    with pytest.raises(
        CheckpointError, match=r"behavior\.npz: camera 'widefield' has 100x100 pixels; valid are"
    ):
        live([], FrameStream("widefield", 100, 100, "uint16", RATE_HZ, 0.0))


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.npz: no such checkpoint"):
        live([], checkpoint=str(tmp_path / "none.npz"))


def striped(seed, frames=900, size=40):
    """Frames with a stripe that is bright while running: quickly learnt."""
    rng = np.random.default_rng(seed)
    running = np.repeat(rng.random(frames // 30) < 0.5, 30)
    pixels = rng.normal(100.0, 10.0, (frames, size, size))
    pixels[:, :8] += 20.0 * running[:, None, None]
    return train.prepare(f"mouse{seed}", pixels, running, RATE_HZ)


def test_training_learns_repeats_and_ships(tmp_path):
    recordings = [striped(seed) for seed in range(3)]
    config = TrainingConfig(epochs=2, threads=1, learning_rate=5e-3)
    network, _ = train.fit(recordings[:2], config)
    again, _ = train.fit(recordings[:2], config)
    torch.use_deterministic_algorithms(False)
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    scores = train.evaluate(network, recordings[:2], recordings[2:])
    assert scores["mouse2"].auc > 0.8

    path = tmp_path / "new.npz"
    train.make_checkpoint(network, recordings[0], {"data": "toy"}).save(path)
    camera = FrameStream("widefield", 40, 40, "float32", RATE_HZ, 0.0)
    frames = np.random.default_rng(0).normal(100.0, 10.0, (60, 40, 40)).astype(np.float32)
    _, probability = live(frames, camera, checkpoint=str(path), warm_up_s=0.0)
    offline = train.decode(
        network, train.prepare("x", np.tile(frames, (15, 1, 1)), np.zeros(900, bool), RATE_HZ)
    )
    np.testing.assert_allclose(probability, offline[:60], atol=5e-3)  # training keeps half precision


def test_recordings_that_cannot_be_trained_on():
    with pytest.raises(DataError, match="m: 30 frames; valid is 20 s or more"):
        train.prepare("m", np.zeros((30, 40, 40)), np.zeros(30, bool), RATE_HZ)
    with pytest.raises(DataError, match="cannot be binned by 2"):
        train.input_size(129, 130)


@given(arrays(np.int64, st.integers(2, 40), elements=st.integers(0, 9)), st.data())
def test_auc_is_the_chance_that_a_positive_ranks_higher(values, data):
    positive = data.draw(arrays(bool, len(values)))
    if positive.all() or not positive.any():
        assert np.isnan(area_under_curve(values.astype(float), positive))
        return
    pairs = np.sign(values[positive][:, None] - values[~positive])
    assert area_under_curve(values.astype(float), positive) == pytest.approx((pairs.mean() + 1) / 2)


@given(arrays(np.float32, st.integers(1, 30), elements=st.integers(-20, 20), unique=True), st.data())
def test_no_threshold_is_better_than_the_best(values, data):
    positive = data.draw(arrays(bool, len(values)))
    best = np.mean((values >= best_threshold(values, positive)) == positive)
    for threshold in [*values, np.inf]:
        assert best >= np.mean((values >= threshold) == positive)
