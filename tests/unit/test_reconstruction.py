import numpy as np
import pytest

from decoders.checkpoint import SHIPPED
from decoders.protocols import LiveDecoder
from decoders.reconstruction import linear_train as train
from decoders.reconstruction.linear import principal_components, video_correlation
from decoders.reconstruction.live import LinearReconstruction
from rig.errors import CheckpointError, DataError
from rig.messages import Frame, FrameStream
from rig.simulation.mouse import Mouse
from rig.simulation.movies import natural_movies
from rig.simulation.visual_cortex import VisualCortex

RATE_HZ = 30.0
CAMERA = FrameStream("two_photon", 128, 128, "uint16", RATE_HZ, 0.0)


def decoder(camera=CAMERA, **settings):
    made = LinearReconstruction(
        "reconstruction", LinearReconstruction.Config(decoder="linear", camera="two_photon", **settings)
    )
    return made, made.load(camera)


def live(frames, camera=CAMERA, indices=None, **settings):
    made, _ = decoder(camera, **settings)
    indices = range(len(frames)) if indices is None else indices
    return np.stack([made.step(Frame("two_photon", int(k), -1, 0, frames[k])) for k in indices])


@pytest.fixture(scope="module")
def cortex():
    return VisualCortex(natural_movies(6, 300, 7), Mouse(7), 7, 200)


def test_it_is_a_live_decoder_that_states_its_lag():
    made, described = decoder()
    assert isinstance(made, LiveDecoder)
    assert described.shape == (36, 64)
    assert f"({described.provenance['lag_frames']} camera frames) before" in described.description


def test_the_shipped_checkpoint_reads_movies_it_never_saw(cortex):
    """The movies of the simulated mouse: none of them was trained on."""
    count = 2 * cortex.loop_frames // 6
    movie = live([cortex.frame(k) for k in range(count)])
    lag = int(decoder()[1].provenance["lag_frames"])
    shown = natural_movies(6, 300, 7)
    scores = []
    for clip in (0, 1):
        at = [k for k in range(60, count) if cortex.stimulus_at(k - lag)[0] == clip]
        truth = np.stack([shown[cortex.stimulus_at(k - lag)] for k in at]).astype(np.float32)
        scores.append(video_correlation(truth, movie[at]))
    assert np.isfinite(movie[60:]).all()
    assert movie[60:].min() >= 0
    assert movie[60:].max() <= 255
    assert np.mean(scores) > 0.15


def test_the_same_frames_give_the_same_bits(cortex):
    frames = [cortex.frame(k) for k in range(60)]
    assert live(frames).tobytes() == live(frames).tobytes()


def test_answers_are_nan_until_the_window_is_full(cortex):
    movie = live([cortex.frame(k) for k in range(25)])
    assert np.isnan(movie[:17]).all()
    assert np.isfinite(movie[17:]).all()


def test_skipped_frames_do_not_stretch_the_window(cortex):
    frames = [cortex.frame(k) for k in range(120)]
    kept = [k for k in range(120) if k not in (70, 71, 90)]
    whole, thinned = live(frames), live(frames, indices=kept)
    assert video_correlation(whole[kept][60:], thinned[60:]) > 0.9


def test_a_field_of_another_size():
    with pytest.raises(CheckpointError, match=r"reconstruction\.npz: camera 'two_photon' has 64x64"):
        decoder(FrameStream("two_photon", 64, 64, "uint16", RATE_HZ, 0.0))


def test_a_checkpoint_of_the_other_decoder():
    with pytest.raises(CheckpointError, match="holds a 'behavior-cnn-gru' decoder; valid here is"):
        decoder(checkpoint=str(SHIPPED / "behavior.npz"))


def test_components_are_orthonormal_and_leading():
    rng = np.random.default_rng(0)
    frames = (rng.normal(size=(200, 3)) * [9.0, 3.0, 1.0]) @ np.linalg.qr(rng.normal(size=(20, 3)))[
        0
    ].T + 100.0
    mean, components = principal_components(frames.astype(np.float32), 2)
    np.testing.assert_allclose(components @ components.T, np.eye(2), atol=1e-5)
    rest = (frames - mean) - (frames - mean) @ components.T @ components
    assert rest.std() < 0.3 * (frames - mean).std()


def linear_field(seed, labels, weights, delay, clips=4, length=90):
    """Neurons that follow the movie exactly, `delay` frames late, on a camera without noise."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(clips, length, 3)).cumsum(axis=1) * 3.0
    looks = np.random.default_rng(6).normal(size=(3, 24))
    movies = np.clip(128 + steps @ looks, 0, 255).astype(np.uint8).reshape(clips, length, 4, 6)
    clip, movie_frame = np.repeat(np.arange(clips), length), np.tile(np.arange(length), clips)
    late = np.maximum(np.arange(clips * length) - delay, 0)
    rates = movies[clip[late], movie_frame[late]].reshape(len(late), -1).astype(float) @ weights
    image = np.concatenate([np.zeros((len(late), 1)), 1000.0 + rates], axis=1)[:, labels.ravel()]
    return image.reshape(-1, *labels.shape), movies, clip, movie_frame


def test_a_linear_code_is_read_well_at_its_own_lag():
    labels = np.arange(64).reshape(8, 8) % 33
    weights = np.random.default_rng(5).normal(size=(24, 32))
    untrained = train.untrained_checkpoint(labels, RATE_HZ, (4, 6))
    sessions = [
        train.prepare(f"s{seed}", untrained, *linear_field(seed, labels, weights, delay=6))
        for seed in range(5)
    ]
    _, report = train.fit(sessions, components=3)
    assert report.video_correlation > 0.8
    assert report.video_correlation_mismatched < 0.5
    assert report.held_out_clips == 4
    assert report.lag_frames in (6, 9)


def test_too_few_clips_to_hold_one_out():
    labels = np.arange(64).reshape(8, 8) % 33
    untrained = train.untrained_checkpoint(labels, RATE_HZ, (4, 6))
    session = linear_field(0, labels, np.zeros((24, 32)), 0, clips=2)
    with pytest.raises(DataError, match="2 different movie clips; valid is 3 or more"):
        train.fit([train.prepare("s", untrained, *session)])
