import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.behavior import train as module
from decoders.behavior.adaptation import Adaptation, AdaptationConfig
from decoders.behavior.augment import Variation, vary
from decoders.behavior.causal import input_size, load, view_of
from decoders.behavior.folder import describe
from decoders.behavior.live import KIND, CausalBehavior
from decoders.behavior.metrics import area_under_curve
from decoders.behavior.model import BehaviorNetwork, NetworkConfig
from decoders.behavior.predictor import FitOptions, fit
from decoders.behavior.runs import Request
from decoders.checkpoint import load_checkpoint
from decoders.datasets.behavior import BehaviorRecording, Excerpt, LabelRule
from decoders.datasets.normalised import normalised
from decoders.normalise import NormaliserConfig
from decoders.protocols import LiveDecoder
from rig.errors import CheckpointError, ConfigError, DataError
from rig.messages import Frame, FrameStream
from rig.simulation.mouse import Mouse
from rig.simulation.widefield import WidefieldCortex

RATE_HZ = 30.0
LANDMARKS_PX = WidefieldCortex(Mouse(9001, duration_s=60.0), 9001).landmarks_px()
CAMERA = FrameStream("widefield", 128, 128, "uint16", RATE_HZ, 0.0, landmarks_px=LANDMARKS_PX)
SMALL = {"epochs": 3, "channels": (8, 8), "features": 8, "hidden": 8, "clip_s": 10.0, "segment_s": 2.0}


def recording(name, frames, running, landmarks_px=None):
    speed = np.where(running, 100.0, 0.0)
    path = Path(f"{name}.nwb")
    return BehaviorRecording(
        name, f"{name}-1", path, RATE_HZ, frames, running, speed, landmarks_px=landmarks_px
    )


@pytest.fixture(scope="module")
def mouse():
    """One simulated minute, labelled by the rule of the toolkit."""
    animal, count = Mouse(9001, duration_s=60.0), 1800
    cortex = WidefieldCortex(animal, 9001)
    speed = animal.running_speed_mm_s(np.arange(count) / RATE_HZ)
    frames = np.stack([cortex.frame(k) for k in range(count)])
    return recording("mouse", frames, LabelRule().label(speed, RATE_HZ), LANDMARKS_PX)


def striped(seed, frames=900, size=32):
    """Frames with a stripe that is bright while running: quickly learnt."""
    rng = np.random.default_rng(seed)
    running = np.repeat(rng.random(frames // 30) < 0.5, 30)
    pixels = rng.normal(1000.0, 10.0, (frames, size, size))
    pixels[:, :8] += 20.0 * running[:, None, None]
    return recording(f"stripe{seed}", pixels.astype(np.uint16), running)


def test_recordings_without_landmarks_are_named_where_others_have_them(caplog):
    placed = recording("placed", np.zeros((1, 2, 2), np.uint16), np.zeros(1, bool), LANDMARKS_PX)
    bare = recording("bare", placed.frames, placed.running)
    assert module.placeable([placed, placed])
    assert not module.placeable([bare, bare])
    assert not caplog.records
    assert not module.placeable([placed, bare])
    assert caplog.messages == [
        "bare.nwb: fewer than two of imaging.landmarks_px, so no recording is seen in the standard view"
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"running": np.ones(9, bool)},
        {"frames": np.ones((9, 2, 2), np.uint16)},
        {"landmarks_px": LANDMARKS_PX},
    ],
)
def test_a_training_goes_on_for_the_same_data_alone(changed):
    one = recording("mouse", np.zeros((9, 2, 2), np.uint16), np.zeros(9, bool))
    names = {
        module._digest([Excerpt(of, 0, 9)], module.Recipe(), FitOptions(cache=Path()))
        for of in (one, replace(one), replace(one, **changed))
    }
    assert len(names) == 2


@pytest.mark.parametrize(
    "changed", [{"running": np.ones(9, bool)}, {"frames": np.ones((9, 2, 2), np.uint16)}]
)
def test_an_evaluation_goes_on_for_the_same_data_alone(changed):
    one = recording("mouse", np.zeros((9, 2, 2), np.uint16), np.zeros(9, bool))
    request = Request("causal", "leave-one-animal-out", FitOptions(cache=Path()))
    first, again, other = (describe(request, [of], {}) for of in (one, replace(one), replace(one, **changed)))
    assert first == again != other


def live(frames, camera=CAMERA, **settings):
    config = CausalBehavior.Config(decoder="causal", camera="widefield", **settings)
    decoder = CausalBehavior("behavior", config)
    described = decoder.load(camera)
    return described, np.array([decoder.step(Frame("widefield", k, -1, 0, f)) for k, f in enumerate(frames)])


# --- the live decoder ---


def test_it_is_a_live_decoder():
    config = CausalBehavior.Config(decoder="causal", camera="widefield")
    assert isinstance(CausalBehavior("behavior", config), LiveDecoder)


def test_the_shipped_checkpoint_decodes_a_mouse_it_never_saw(mouse):
    described, probability = live(mouse.frames)
    assert described.shape == ()
    assert described.provenance["data"] == "simulated"
    known = ~np.isnan(probability)
    assert known.sum() == len(mouse) - 90  # three seconds of warm-up
    assert not known[:90].any()
    assert ((probability[known] >= 0) & (probability[known] <= 1)).all()
    assert area_under_curve(probability[known], mouse.running[known]) > 0.85


def test_live_and_offline_say_the_same(mouse):
    shipped = load(Path(CausalBehavior("b", _config())._path))
    offline = shipped.predict(mouse)
    np.testing.assert_allclose(live(mouse.frames)[1], offline, atol=5e-3)  # offline keeps half precision


def _config():
    return CausalBehavior.Config(decoder="causal", camera="widefield")


def test_the_same_frames_give_the_same_bits(mouse):
    frames = mouse.frames[:200]
    assert live(frames)[1].tobytes() == live(frames)[1].tobytes()


def test_an_answer_stays(mouse):
    decoder = CausalBehavior("behavior", _config())
    decoder.load(CAMERA)
    answers, copies = [], []
    for k, pixels in enumerate(mouse.frames[:120]):
        answers.append(decoder.step(Frame("widefield", k, -1, 0, pixels)))
        copies.append(answers[-1].copy())
    assert len(set(np.array(copies)[90:].tolist())) > 20
    np.testing.assert_array_equal(answers, copies)


def test_no_future_frame_takes_part(mouse):
    frames = mouse.frames[:200]
    changed = np.concatenate([frames[:150], frames[150:, ::-1]])
    before, after = live(frames)[1], live(changed)[1]
    assert before[:150].tobytes() == after[:150].tobytes()
    assert (before[150:] != after[150:]).any()


def test_a_stride_decides_now_and_then_and_alike(mouse):
    every, third = live(mouse.frames[:120])[1], live(mouse.frames[:120], stride_frames=3)[1]
    np.testing.assert_array_equal(third[92::3], every[92::3])
    np.testing.assert_array_equal(third[93::3], third[92:-1:3])


def test_a_window_that_the_checkpoint_does_not_have():
    with pytest.raises(
        CheckpointError, match=r"window_s 0\.5, but it was trained with a memory carried without end"
    ):
        live([], window_s=0.5)


def test_bigger_frames_are_binned(mouse):
    frames = mouse.frames[:120]
    doubled = frames.repeat(2, 1).repeat(2, 2)
    landmarks_px = {name: (2 * column + 0.5, 2 * row + 0.5) for name, (column, row) in LANDMARKS_PX.items()}
    camera = FrameStream("widefield", 256, 256, "uint16", RATE_HZ, 0.0, landmarks_px=landmarks_px)
    np.testing.assert_allclose(live(doubled, camera)[1], live(frames)[1], atol=1e-3)


def test_a_camera_without_landmarks_or_too_slow():
    with pytest.raises(
        DataError, match=r"behavior\.npz: needs cameras\.widefield\.imaging\.landmarks_px: 0 landm"
    ):
        live([], FrameStream("widefield", 128, 128, "uint16", RATE_HZ, 0.0))
    slow = FrameStream("widefield", 128, 128, "uint16", 10.0, 0.0, landmarks_px=LANDMARKS_PX)
    with pytest.raises(CheckpointError, match=r"camera 'widefield' runs at 10 Hz; valid is 30 Hz"):
        live([], slow)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.npz: no such checkpoint"):
        live([], checkpoint=str(tmp_path / "none.npz"))


def test_a_checkpoint_of_an_earlier_version(tmp_path):
    shipped = load_checkpoint(CausalBehavior("b", _config())._path, KIND)
    settings = {
        name: value for name, value in shipped.settings.items() if name not in ("placed", "adaptation")
    }
    replace(shipped, settings=settings).save(tmp_path / "old.npz")
    for read in (lambda: load(tmp_path / "old.npz"), lambda: live([], checkpoint=str(tmp_path / "old.npz"))):
        with pytest.raises(
            CheckpointError, match=r"old\.npz: of an earlier version, without adaptation, placed"
        ):
            read()


# --- training ---


@pytest.mark.parametrize("memory", ["carried", "windowed"])
def test_training_learns_repeats_and_ships(tmp_path, memory):
    training = [striped(seed).whole() for seed in range(2)]
    options = FitOptions(tmp_path, threads=1, settings=SMALL | {"memory": memory, "window_s": 0.2})
    fitted, again = (fit("causal", training, [], options) for _ in range(2))
    torch.use_deterministic_algorithms(False)
    for one, other in zip(
        fitted.network.state_dict().values(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    unseen = striped(9)
    probability = fitted.predict(unseen)
    known = np.isfinite(probability)
    assert area_under_curve(probability[known], unseen.running[known]) > 0.9

    path = tmp_path / "new.npz"
    fitted.save(path)
    np.testing.assert_array_equal(load(path).predict(unseen), probability)
    camera = FrameStream("widefield", 32, 32, "uint16", RATE_HZ, 0.0)
    said = live(unseen.frames[:200], camera, checkpoint=str(path))[1]
    np.testing.assert_allclose(said, probability[:200], atol=5e-3)


def test_blanked_pixels_are_not_looked_at(tmp_path):
    # with the common mode taken out, the rest of the frame would tell what the stripe does
    options = FitOptions(tmp_path, threads=1, settings=SMALL | {"common_mode": True})
    fitted = fit("causal", [striped(seed).whole() for seed in range(2)], [], options)
    unseen, stripe = striped(9), np.zeros((32, 32), bool)
    stripe[:8] = True
    known = slice(90, None)
    whole, without, elsewhere = (
        area_under_curve(fitted.predict(unseen, mask)[known], unseen.running[known])
        for mask in (None, stripe, ~stripe)
    )
    assert without < 0.7 < 0.9 < min(whole, elsewhere)


def test_a_broken_off_training_goes_on_where_it_was(tmp_path, monkeypatch):
    training = [striped(seed).whole() for seed in range(2)]
    whole = fit("causal", training, [], FitOptions(tmp_path / "a", threads=1, settings=SMALL))

    losses = module._losses

    def break_off(network, clips, options, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return losses(network, clips, options, epoch)

    options = FitOptions(tmp_path / "b", threads=1, settings=SMALL)
    monkeypatch.setattr(module, "_losses", break_off)
    with pytest.raises(KeyboardInterrupt):
        fit("causal", training, [], options)
    monkeypatch.undo()
    assert list((tmp_path / "b").glob("*.resume"))
    resumed = fit("causal", training, [], options)
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_rates_that_were_measured_are_trained_on_and_decoded(tmp_path):
    options = FitOptions(tmp_path, threads=1, settings=SMALL | {"epochs": 1})
    one, other = (replace(striped(k, 240), rate_hz=hz) for k, hz in enumerate((30.0052, 29.9986)))
    model = fit("causal", [one.whole(), other.whole()], [], options)
    assert model.normaliser.rate_hz == 30.0052
    assert np.isfinite(model.predict(other)[90:]).all()
    with pytest.raises(DataError, match=r"at 20 Hz; this model was trained on .* at 30\.0052 Hz"):
        model.predict(replace(other, rate_hz=20.0))
    with pytest.raises(DataError, match="differ in rate or size"):
        fit("causal", [one.whole(), replace(other, rate_hz=20.0).whole()], [], options)


def test_recordings_that_cannot_be_trained_on(tmp_path):
    options = FitOptions(tmp_path, threads=1)
    still = recording("still", np.zeros((90, 32, 32), np.uint16), np.zeros(90, bool))
    with pytest.raises(DataError, match="one behaviour only"):
        fit("causal", [still.whole()], [], options)
    with pytest.raises(DataError, match="differ in rate or size"):
        fit("causal", [striped(0).whole(), striped(1, size=40).whole()], [], options)
    with pytest.raises(DataError, match="cannot be binned by 4"):
        input_size(129, 130)
    with pytest.raises(DataError, match="40x40 pixels at 30 Hz; this model was trained on"):
        fit("causal", [striped(0).whole()], [], FitOptions(tmp_path, threads=1, settings=SMALL)).predict(
            striped(1, size=40)
        )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"wings": 2}, r"setting wings=2: no such name; .*valid: epochs, "),
        ({"channels": [0]}, r"setting channels=\[0\]: valid is a list of whole numbers above 0"),
        ({"channels": []}, r"setting channels=\[\]: valid is a list of whole numbers above 0"),
        ({"hidden": 0}, "setting hidden=0: valid is a whole number of 1 or more"),
        ({"window_s": math.inf}, "setting window_s=inf: valid is a number above 0 and of 60 or less"),
        ({"clip_s": math.inf}, "setting clip_s=inf: valid is a number above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says):
        fit("causal", [striped(0).whole()], [], FitOptions(tmp_path, settings=settings))


def test_only_the_excerpt_is_trained_on(tmp_path):
    first, second = striped(0), striped(0)
    second.frames[450:] = 7  # differs only outside the excerpt, and later than it
    options = [FitOptions(tmp_path / name, threads=1, settings=SMALL) for name in "ab"]
    one, other = (
        fit("causal", [Excerpt(r, 0, 450)], [], o) for r, o in zip((first, second), options, strict=True)
    )
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)


# --- the network: features once a frame, windows of them ---


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=20)
def test_shared_features_give_the_gradients_of_window_by_window(window, frames, seed):
    """In double precision, with batch norm's statistics and dropout held still, as both differ by construction."""
    torch.manual_seed(seed)
    config = NetworkConfig(16, 16, (3, 4), 5, 6, 0.0, window)
    network = BehaviorNetwork(config).double().eval()
    clip = torch.randn(2, frames + window - 1, 16, 16, dtype=torch.float64)
    labels = (torch.rand(2, frames) > 0.5).double()

    def gradients(logits):
        network.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        return [p.grad.clone() for p in network.parameters()]

    shared = gradients(network(clip, torch.zeros(2, 0, 5, dtype=torch.float64))[0]) if window == 1 else None
    if shared is None:
        state = network.encoder(clip[:, : window - 1].flatten(0, 1).unsqueeze(1)).unflatten(
            0, (2, window - 1)
        )
        shared = gradients(network(clip[:, window - 1 :], state)[0])

    def one_window(at):
        features = network.encoder(clip[:, at : at + window].flatten(0, 1).unsqueeze(1)).unflatten(
            0, (2, window)
        )
        return network.readout(network.memory(features)[0][:, -1]).squeeze(-1)

    apart = gradients(torch.stack([one_window(at) for at in range(frames)], 1))
    for one, other in zip(shared, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@given(st.sampled_from([0, 1, 2, 5]), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=20)
def test_a_sequence_in_two_parts_is_the_sequence(window, first, second):
    torch.manual_seed(window)
    network = BehaviorNetwork(NetworkConfig(16, 16, (3, 4), 5, 6, 0.0, window)).eval()
    clip = torch.randn(1, first + second, 16, 16)
    with torch.no_grad():
        whole, _ = network(clip, network.start(1))
        one, state = network(clip[:, :first], network.start(1))
        other, _ = network(clip[:, first:], state)
    torch.testing.assert_close(torch.cat([one, other], 1), whole, atol=1e-5, rtol=1e-4)


# --- what makes it indifferent to the animal ---


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=60), st.integers(1, 59))
def test_the_adaptation_sees_no_later_logit(logits, cut):
    config = AdaptationConfig(0.6, 1.5, 1.0, RATE_HZ)
    whole = Adaptation(config).sequence(logits)
    np.testing.assert_array_equal(Adaptation(config).sequence(logits[:cut]), whole[:cut])
    assert ((whole >= 0) & (whole <= 1)).all()


def test_the_adaptation_finds_out_how_much_an_animal_runs():
    rng = np.random.default_rng(0)
    running = np.repeat(rng.random(120) < 0.25, 60)  # a quarter, where the network expects three quarters
    expected = np.log(3.0)
    logits = np.where(running, 2.0, -2.0) + rng.normal(0, 2.0, len(running)) + expected
    adaptation = Adaptation(AdaptationConfig(0.75, 1.0, 60.0, RATE_HZ))
    probability = adaptation.sequence(logits)
    assert abs(adaptation.run_share - running[-3600:].mean()) < 0.1
    plain = np.mean((logits >= 0) == running)
    assert np.mean((probability >= 0.5) == running) > plain + 0.05


def test_an_animal_that_never_runs_may_begin_to():
    adaptation = Adaptation(AdaptationConfig(0.5, 1.0, 1.0, RATE_HZ))
    adaptation.sequence([-8.0] * 3000)
    assert adaptation.step(4.0) > 0.8


def test_a_clip_is_varied_as_a_whole():
    variation = Variation(5.0, 0.05, 0.03, 0.2, 0.2, 0.4, 0.0)
    clips = torch.ones(2, 6, 32, 32)
    varied = vary(clips, variation, np.random.default_rng(0))
    assert torch.equal(varied[:, :1].expand_as(varied), varied)  # the same in every frame
    assert not torch.allclose(varied[0], varied[1])  # another for every clip
    drifting = vary(torch.ones(2, 300, 16, 16), Variation(0, 0, 0, 0, 0, 0, 0.5), np.random.default_rng(0))
    assert 0 < float(drifting.diff(dim=1).abs().max()) < 0.1  # slowly
    still = vary(clips, Variation(0, 0, 0, 0, 0, 0, 0), np.random.default_rng(0))
    torch.testing.assert_close(still, clips)


def test_normalised_frames_do_not_show_what_all_pixels_do(tmp_path, mouse):
    config = NormaliserConfig(20.0, 60.0, RATE_HZ, common_mode=False)
    frames = normalised(mouse, tmp_path, view_of(mouse, placed=False), config)
    assert frames.shape == (len(mouse), 32, 32)
    assert abs(float(frames.mean())) < 1e-3
    brighter = recording("mouse", mouse.frames + np.uint16(50), mouse.running)
    again = normalised(brighter, None, view_of(brighter, placed=False), config)
    np.testing.assert_allclose(again[90:], frames[90:], atol=0.02)
