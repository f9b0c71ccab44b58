"""Frames to neurons as a live decoder does it: motion, traces, neuropil, dF/F, spikes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from decoders.protocols import Doubting, LiveDecoder, WithRois
from decoders.traces.deconvolution import CausalDeconvolution
from decoders.traces.live import RoiActivity
from decoders.traces.pipeline import LiveTraces, TraceSettings
from decoders.traces.rois import RoiTraces, TiledSurround, WeightedMeans, label_masks
from rig.errors import DataError
from rig.messages import Frame, FrameStream, PredictionStatus

RATE_HZ, TAU_S = 30.0, 1.25
SIZE = 64
SOURCE = FrameStream("two_photon", SIZE, SIZE, "uint16", RATE_HZ, 0.0)


def label_image() -> np.ndarray:
    """Sixteen square cells."""
    image = np.zeros((SIZE, SIZE), np.int64)
    corners = [(row, column) for row in range(8, 56, 12) for column in range(8, 56, 12)]
    for k, (row, column) in enumerate(corners):
        image[row : row + 5, column : column + 5] = k + 1
    return image


LABELS = label_image()
MASKS = label_masks(LABELS)


def spikes_and_dff(noise: float, neurons: int = 40, frames: int = 1800) -> tuple[np.ndarray, np.ndarray]:
    """Bursts of spikes and the dF/F that an AR(1) indicator makes of them, 1 for each spike."""
    rng = np.random.default_rng(5)
    bursts = np.exp(rng.standard_normal((frames // 15, neurons)) - 0.5).repeat(15, axis=0)
    spikes = rng.poisson(bursts / RATE_HZ)
    calcium = np.zeros((frames, neurons))
    for k in range(1, frames):
        calcium[k] = np.exp(-1 / (TAU_S * RATE_HZ)) * calcium[k - 1] + spikes[k]
    return spikes, (calcium + noise * rng.standard_normal(calcium.shape)).astype(np.float32)


def mean_correlation(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, true.T, strict=True)]))


@pytest.mark.parametrize(("noise", "least", "tau_s"), [(0.5, 0.4, 1.25), (0.25, 0.6, 1.25), (0.5, 0.4, 0.75)])
def test_deconvolution_follows_spikes_far_better_than_dff_does(noise, least, tau_s):
    spikes, dff = spikes_and_dff(noise)
    found = mean_correlation(CausalDeconvolution(tau_s, RATE_HZ).recording(dff), spikes)
    assert found > least
    assert found > mean_correlation(dff, spikes) + 0.15


def test_deconvolution_is_never_negative_and_silent_without_a_signal():
    _, dff = spikes_and_dff(1.0, neurons=5, frames=300)
    assert (CausalDeconvolution(TAU_S, RATE_HZ).recording(dff) >= 0).all()
    assert not CausalDeconvolution(TAU_S, RATE_HZ).recording(np.zeros((300, 5), np.float32)).any()


def test_calcium_goes_on_decaying_while_frames_are_missing():
    decay = np.exp(-np.arange(100) / (TAU_S * RATE_HZ), dtype=np.float32)[:, np.newaxis]
    deconvolution = CausalDeconvolution(TAU_S, RATE_HZ)
    before = deconvolution.recording(decay[:50])
    after = deconvolution.step(decay[60], missed=10)
    assert max(before.max(), after.max()) < 1e-3


@settings(max_examples=25)
@given(st.integers(1, 119), st.integers(0, 100))
def test_spikes_come_one_by_one_and_from_no_later_frame(cut, seed):
    dff = np.random.default_rng(seed).standard_normal((120, 3)).astype(np.float32)
    changed = dff.copy()
    changed[cut:] += 1.0
    whole = CausalDeconvolution(TAU_S, RATE_HZ).recording(dff)
    parts = CausalDeconvolution(TAU_S, RATE_HZ)
    np.testing.assert_array_equal(
        np.concatenate([parts.recording(dff[:cut]), parts.recording(dff[cut:])]), whole
    )
    np.testing.assert_array_equal(CausalDeconvolution(TAU_S, RATE_HZ).recording(changed)[:cut], whole[:cut])


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_weighted_means_of_a_label_image_are_those_of_its_labels(seed):
    frame = np.random.default_rng(seed).integers(0, 65535, LABELS.shape).astype(np.float32)
    np.testing.assert_allclose(WeightedMeans(MASKS)(frame), RoiTraces(LABELS)(frame), rtol=1e-6)


def test_a_surround_is_the_neuropil_near_a_cell_and_no_cell():
    rows, columns = np.mgrid[:SIZE, :SIZE]
    slope = (rows + 2.0 * columns).astype(np.float32)
    bright = np.where(LABELS > 0, 1e6, slope).astype(np.float32)
    found = TiledSurround(MASKS)(bright)
    inner = ~np.isin(np.arange(16) // 4, (0, 3)) & ~np.isin(np.arange(16) % 4, (0, 3))
    expected = MASKS.centres_px() @ [1.0, 2.0]
    np.testing.assert_allclose(found[inner], expected[inner], atol=4.0)  # a tile's width


def test_a_field_without_neuropil_is_refused():
    with pytest.raises(DataError, match="0 pixels are outside all ROIs"):
        TiledSurround(label_masks(np.ones((32, 32), int)))


def field(margin: int = 20) -> np.ndarray:
    """Light of the resting cells and neuropil in a field larger than the camera sees."""
    texture = gaussian_filter(np.random.default_rng(3).random((SIZE + 2 * margin,) * 2), 1.0)
    light = 400.0 * (texture - texture.min()) / np.ptp(texture)
    light[margin:-margin, margin:-margin] += 300.0 * (LABELS > 0)
    return light


def frames(count: int, moving: bool) -> list[np.ndarray]:
    """A cell at a time flashes in every tenth frame; the image shakes by up to 4 pixels."""
    rng = np.random.default_rng(4)
    made = []
    for k in range(count):
        light = field()
        if k % 10 == 0:
            light[20:-20, 20:-20] += 600.0 * (k // 10 % 16 + 1 == LABELS)
        down, right = rng.integers(-4, 5, 2) if moving else (0, 0)
        made.append(rng.poisson(light[20 - down : 84 - down, 20 - right : 84 - right]).astype(np.uint16))
    return made


def decoder(folder: Path, **changes: object) -> RoiActivity:
    np.save(folder / "rois.npy", LABELS)
    np.save(folder / "reference.npy", field()[20:84, 20:84].astype(np.float32))
    given = {"rois": str(folder / "rois.npy"), "reference": str(folder / "reference.npy"), "max_shift_px": 8}
    config = RoiActivity.Config(decoder="traces", camera="two_photon", **(given | changes))
    return RoiActivity("neurons", config)


def answers(made: RoiActivity, images: list[np.ndarray]) -> np.ndarray:
    made.load(SOURCE)
    return np.stack([made.step(Frame("two_photon", k, -1, 0, image)) for k, image in enumerate(images)])


def test_the_decoder_keeps_the_promises_of_its_protocols(tmp_path):
    made = decoder(tmp_path)
    assert isinstance(made, LiveDecoder)
    assert isinstance(made, WithRois)
    described = made.load(SOURCE)
    assert isinstance(made, Doubting)
    assert (described.shape, described.unit, described.per_roi) == ((16,), "dF/F per frame", True)
    assert RoiActivity.roi_masks(made._config).count == 16


def test_a_shaking_image_gives_the_traces_of_a_still_one(tmp_path):
    made = decoder(tmp_path, signal="fluorescence", neuropil_share=0.0)
    shaken = answers(made, frames(60, moving=True))
    uncorrected = answers(
        decoder(tmp_path, signal="fluorescence", neuropil_share=0.0, max_shift_px=0), frames(60, moving=True)
    )
    true = np.stack([[300.0 * (k % 10 == 0 and k // 10 % 16 == n) * 2 for n in range(16)] for k in range(60)])
    rest = WeightedMeans(MASKS)(field()[20:84, 20:84].astype(np.float32))
    assert np.abs(shaken - rest - true).max() < 40.0  # photon noise of 25 pixels: 6
    assert np.abs(uncorrected - rest - true).max() > 200.0


def test_a_flash_is_the_spike_of_its_own_cell(tmp_path):
    found = answers(decoder(tmp_path), frames(160, moving=True))
    flashed = found[np.arange(10, 160, 10)]
    assert flashed.argmax(axis=1).tolist() == list(range(1, 16))


def test_whole_and_frame_by_frame_are_one(tmp_path):
    images = frames(40, moving=True)
    traces = LiveTraces(MASKS, TraceSettings(RATE_HZ, max_shift_px=8), reference=field()[20:84, 20:84])
    whole = [traces.step(image) for image in images]
    live = answers(decoder(tmp_path, tau_s=1.0), images)
    np.testing.assert_allclose(live, [signals.spikes for signals in whole if signals], rtol=1e-5, atol=1e-6)


def test_a_lost_place_is_unknown_and_says_why(tmp_path):
    made = decoder(tmp_path)
    images = frames(4, moving=False)
    images[2] = np.random.default_rng(0).poisson(30.0, (SIZE, SIZE)).astype(np.uint16)
    made.load(SOURCE)
    for k, image in enumerate(images):
        known = not np.isnan(made.step(Frame("two_photon", k, -1, 0, image))).any()
        assert (known, made.doubt) == ((True, None) if k != 2 else (False, PredictionStatus.IMAGE_MOVED))


def test_without_a_reference_nothing_is_known_until_there_is_one(tmp_path):
    made = decoder(tmp_path, reference=None, reference_s=0.5)
    known = ~np.isnan(answers(made, frames(20, moving=False))).any(axis=1)
    assert known.tolist() == [False] * 15 + [True] * 5
    assert made.doubt is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rois": "nowhere"}, "nowhere: no such file; valid is a folder of suite2p"),
        ({"reference": "nowhere.npy"}, r"nowhere\.npy: no such file"),
        ({"max_shift_px": 40}, "motion is believed up to 40 pixels; valid is 1 to 31"),
    ],
)
def test_what_cannot_be_loaded_is_told(changes, said, tmp_path):
    with pytest.raises(DataError, match=said):
        decoder(tmp_path, **changes).load(SOURCE)


def test_rois_of_another_camera_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"ROIs of 64 x 64 frames; 'two_photon' has 64 x 128"):
        decoder(tmp_path).load(FrameStream("two_photon", 64, 128, "uint16", RATE_HZ, 0.0))
