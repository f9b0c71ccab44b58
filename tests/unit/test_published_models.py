import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from decoders.behavior import published, roi_networks
from decoders.behavior.cnn_gru import CnnGruNetwork
from decoders.behavior.efficientnet import EfficientNetB0, library_names, load_imagenet
from decoders.behavior.images import SessionImages, Stretches, open_images, session_statistics
from decoders.behavior.metrics import area_under_curve
from decoders.behavior.predictor import FitOptions, fit
from decoders.datasets.behavior import BehaviorRecording
from rig.errors import CheckpointError, ConfigError, DataError

LIBRARIES = ("torchvision", "timm", "efficientnet-pytorch")
SMALL = {"frames_per_epoch": 96, "validation_frames": 32, "batch": 16, "epochs": 2}


def recording_of(name, seed=0, frames=240, size_px=32, contrast=300):
    """A square in the frame is brighter while the animal runs."""
    rng = np.random.default_rng(seed)
    running = np.arange(frames) // 30 % 2 == 1
    movie = rng.normal(1000, 30, (frames, size_px, size_px))
    movie[:, 8:20, 8:20] += contrast * running[:, None, None]
    return BehaviorRecording(
        name, name, Path(f"{name}.nwb"), 30.0, movie.astype(np.uint16), running, running * 50.0
    )


def known_auc(probability, recording):
    known = ~np.isnan(probability)
    return area_under_curve(probability[known], recording.running[known])


def randomised(seed=0):
    """A network whose batch norms have seen something, as trained ones have."""
    torch.manual_seed(seed)
    network = EfficientNetB0().eval()
    for name, value in network.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return network


def written(path, network, library, classes=1000):
    """A state file of an EfficientNet-B0 as a library would write it, with that library's names."""
    state, names = network.state_dict(), dict(library_names(library))
    theirs = {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
              for key, value in state.items() if key.rpartition(".")[0] in names}  # fmt: skip
    head = {"torchvision": "classifier.1", "timm": "classifier", "efficientnet-pytorch": "_fc"}[library]
    theirs |= {f"{head}.weight": torch.zeros(classes, 1280), f"{head}.bias": torch.zeros(classes)}
    torch.save(theirs, path)
    return theirs


def test_published_numbers_of_parameters():
    cnn = EfficientNetB0()
    assert sum(p.numel() for p in cnn.parameters() if p.requires_grad) == 4_008_829
    assert sum(p.numel() for p in CnnGruNetwork(cnn).parameters() if p.requires_grad) == 4_649_470
    with torch.no_grad():
        assert cnn.eval().features(torch.zeros(2, 3, 128, 128)).shape == (2, 1280)


def test_fixed_cnn_leaves_the_recurrent_part_to_train():
    network = CnnGruNetwork(EfficientNetB0(), cnn_fixed=True)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 4_649_470 - 4_008_829


def test_padding_is_that_of_the_published_package():
    # "same" padding of a stride-2 convolution puts the odd pixel right and below: output (0, 0) sees input (0..2)
    stem = EfficientNetB0().stem
    torch.nn.init.ones_(stem.weight)
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, 0, 0] = 1
    with torch.no_grad():
        seen = stem(image)[0, 0]
    assert seen.shape == (4, 4)
    assert seen[0, 0] == 1
    assert seen.sum() == 1


@pytest.mark.parametrize(
    ("library", "names"),
    [
        (
            "torchvision",
            {"features.0.0", "features.1.0.block.0.0", "features.2.1.block.2.fc1", "features.8.1"},
        ),
        ("timm", {"conv_stem", "blocks.0.0.conv_dw", "blocks.1.1.se.conv_reduce", "bn2"}),
        ("efficientnet-pytorch", {"_conv_stem", "_blocks.0._depthwise_conv", "_blocks.2._se_reduce", "_bn1"}),
    ],
)
def test_layers_have_each_librarys_names(library, names):
    assert names <= set(dict(library_names(library)).values())


@pytest.mark.parametrize("library", LIBRARIES)
def test_imagenet_weights_of_three_libraries(tmp_path, library):
    source = randomised()
    written(tmp_path / "weights.pth", source, library)
    network = EfficientNetB0().eval()
    assert load_imagenet(network, tmp_path / "weights.pth") == library
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.features(images), source.features(images))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path, network = tmp_path / "weights.pth", EfficientNetB0()
    weights = written(path, randomised(), "timm")
    torch.save({**weights, "conv_head.weight": torch.zeros(1408, 352, 1, 1)}, path)  # B2's
    with pytest.raises(
        CheckpointError, match=r"\(1408, 352, 1, 1\) for conv_head.weight .*\(1280, 320, 1, 1\)"
    ):
        load_imagenet(network, path)
    torch.save({name: value for name, value in weights.items() if not name.startswith("blocks.3")}, path)
    with pytest.raises(CheckpointError, match=r"nothing for blocks\.3\.0"):
        load_imagenet(network, path)
    torch.save({"layer.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no EfficientNet weights by any known name"):
        load_imagenet(network, path)
    torch.save(EfficientNetB0(), path)  # a pickled object: reading it would execute code
    with pytest.raises(CheckpointError, match="cannot be read as weights alone"):
        load_imagenet(network, path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_imagenet(network, tmp_path / "missing.pth")


def test_shared_features_give_the_gradients_of_single_windows():
    torch.manual_seed(0)
    network = CnnGruNetwork(randomised(), half_window=2).double().eval()
    images, labels = torch.randn(2, 6, 3, 32, 32).double(), torch.rand(2, 2).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits

    loss(network(images), labels).backward()
    shared = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    for row in range(2):
        for at in range(2):
            single = network(images[row : row + 1, at : at + 5])
            (loss(single, labels[row : row + 1, at : at + 1]) / 4).backward()
    separate = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert separate.keys() == shared.keys()
    assert any(name.startswith("cnn.stem") for name in shared)
    for name, gradient in separate.items():
        torch.testing.assert_close(shared[name], gradient, rtol=0, atol=1e-5 * float(gradient.abs().max()))


def test_frozen_norms_keep_their_statistics_in_training():
    network = CnnGruNetwork(EfficientNetB0(), half_window=1).train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(1, 4, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    published_way = CnnGruNetwork(EfficientNetB0(), half_window=1, norms_frozen=False).train()
    published_way(torch.randn(1, 4, 3, 32, 32))
    assert any(not torch.equal(value, before[name]) for name, value in published_way.named_buffers())


def test_images_are_three_normalised_frames(tmp_path):
    recording = recording_of("m1")
    raw = recording.frames.astype(np.float64)
    normalised = (raw - raw.mean(axis=0)) / raw.std()  # as the published code does
    statistics = session_statistics(recording, tmp_path)
    images = SessionImages(recording, statistics).images(5, 8).numpy()
    assert images.shape == (3, 3, 32, 32)
    for image, frame in zip(images, (5, 6, 7), strict=True):
        np.testing.assert_allclose(image, normalised[frame - 1 : frame + 2], atol=1e-4)
    occluded = np.zeros((32, 32), bool)
    occluded[:16] = True
    masked = SessionImages(recording, statistics, occluded).images(5, 8).numpy()
    assert not masked[:, :, :16].any()
    np.testing.assert_array_equal(masked[:, :, 16:], images[:, :, 16:])


@pytest.mark.parametrize(("length", "half"), [(1, 0), (1, 5), (8, 5), (32, 0)])
def test_windows_stay_within_their_excerpts(tmp_path, length, half):
    recording = recording_of("m1")
    frames = np.zeros((240, 32, 32), np.uint16) + np.arange(240, dtype=np.uint16)[:, None, None]
    recording = replace(recording, frames=frames, running=np.arange(240) % 3 == 0)
    source = SessionImages(recording, session_statistics(recording, None))
    excerpts = [
        replace(recording.whole(), start=20, stop=100),
        replace(recording.whole(), start=120, stop=200),
    ]
    stretches = Stretches.of(excerpts, [source, source], length, half)
    drawn = stretches.draw(np.random.default_rng(0), None)
    assert len(drawn) == len(stretches) > 0
    for index, first in drawn:
        assert excerpts[index].start <= first - half - 1
        assert first + length + half + 1 <= excerpts[index].stop
    taken = [frame for _, first in drawn for frame in range(first, first + length)]
    assert len(set(taken)) == len(taken)  # no frame twice in an epoch
    images, labels = stretches.load(drawn[:2])
    std = float(frames.std())
    for image, label, (_, first) in zip(images, labels, drawn[:2], strict=True):
        centre = (
            image[half : half + length, 1, 0, 0] * std + frames.mean()
        )  # the middle channel is the frame itself
        np.testing.assert_allclose(centre, np.arange(first, first + length), atol=1e-2)
        np.testing.assert_array_equal(label.numpy().astype(bool), recording.running[first : first + length])


def test_too_short_excerpts_are_refused(tmp_path):
    recording = recording_of("m1", frames=30)
    with pytest.raises(DataError, match="no stretch of frames is longer than 30; valid is 44 or more"):
        published.fit_cnn_gru([recording.whole()], [], FitOptions(tmp_path, threads=1, settings=SMALL))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A CNN-GRU trained on one mouse; stage 1 lies in its cache."""
    cache = tmp_path_factory.mktemp("cache")
    options = FitOptions(cache, threads=1, settings={**SMALL, "stretch_windows": 16, "half_window": 2})
    training, validation = [recording_of("a", 1).whole()], [recording_of("b", 2).whole()]
    return fit("cnn-gru", training, validation, options), training, validation, options


def test_two_stages_decode_a_mouse_they_never_saw(fitted):
    predictor, recording = fitted[0], recording_of("c", 3)
    probability = predictor.predict(recording)
    unknown = np.flatnonzero(np.isnan(probability))
    assert unknown.tolist() == [0, 1, 2, 237, 238, 239]  # half a window and one frame
    assert known_auc(probability, recording) > 0.9
    told = predictor.provenance
    assert told["trained_on"] == "a/a[0:240]"
    assert told["started_from"] == "random weights"
    assert len(json.loads(told["behavior-cnn_training"])["validation_losses"]) == 2


def test_the_same_training_gives_the_same_bits_and_shares_stage_1(fitted):
    predictor, training, validation, options = fitted
    assert len(list(options.cache.glob("stage-1-*.npz"))) == 1
    again = fit("cnn-gru", training, validation, options)
    assert len(list(options.cache.glob("stage-1-*.npz"))) == 1
    for name, value in predictor.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


def test_stage_1_is_a_model_of_its_own(fitted):
    _, training, validation, options = fitted
    predictor, recording = fit("cnn", training, validation, options), recording_of("c", 3)
    probability = predictor.predict(recording)
    assert np.flatnonzero(np.isnan(probability)).tolist() == [0, 239]
    assert known_auc(probability, recording) > 0.9


def test_occluding_the_only_signal_leaves_chance(fitted):
    predictor, recording = fitted[0], recording_of("c", 3)
    occluded = np.zeros((32, 32), bool)
    occluded[6:22, 6:22] = True
    assert known_auc(predictor.predict(recording, occluded), recording) < 0.7


def test_a_checkpoint_answers_as_the_model_it_was_made_of(fitted, tmp_path):
    predictor, recording = fitted[0], recording_of("c", 3)
    predictor.save(tmp_path / "model.npz")
    loaded = published.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.predict(recording), predictor.predict(recording))
    assert loaded.provenance == predictor.provenance
    with pytest.raises(CheckpointError, match="exists already"):
        predictor.save(tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match="'behavior-cnn-gru-published' decoder; valid here is"):
        roi_networks.load(tmp_path / "model.npz")


def test_onnx_features_are_those_of_torch(fitted):
    predictor, recording = fitted[0], recording_of("c", 3)
    source = SessionImages(recording, session_statistics(recording, None))
    with torch.no_grad():
        logits = predictor.network.eval()(source.images(1, 101)[None])[0]
    answered = predictor.predict(recording)[3 : 3 + len(logits)]
    np.testing.assert_allclose(answered, torch.sigmoid(logits), atol=1e-4)


def test_frames_of_another_size_or_rate_are_refused(fitted):
    predictor = fitted[0]
    with pytest.raises(
        DataError, match="48x48 pixels at 30 Hz; this model was trained on 32x32 pixels at 30 Hz"
    ):
        predictor.predict(recording_of("c", size_px=48))
    with pytest.raises(DataError, match="at 20 Hz"):
        predictor.predict(replace(recording_of("c"), rate_hz=20.0))


def test_rates_that_were_measured_are_opened_together_and_decoded(fitted, tmp_path):
    one, other = (
        replace(recording_of(name, frames=60), rate_hz=hz) for name, hz in (("a", 30.0052), ("c", 29.9986))
    )
    assert np.isfinite(fitted[0].predict(other)[3:-3]).all()
    assert len(open_images([one.whole(), other.whole()], tmp_path)) == 2
    for changed in (replace(other, rate_hz=20.0), recording_of("c", size_px=48)):
        with pytest.raises(DataError, match="recordings differ in size or rate"):
            open_images([one.whole(), changed.whole()], tmp_path)


@pytest.mark.parametrize("model", ["cnn-gru", "roi-gru"])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epoch": 3}, "setting epoch=3: no such name; did you mean epochs"),
        ({"batch": 0}, "setting batch=0: valid is a whole number of 1 or more"),
        ({"epochs": "many"}, "setting epochs=many: valid is a whole number of 1 or more"),
    ],
)
def test_settings_that_do_not_exist_are_refused(tmp_path, model, settings, says):
    with pytest.raises(ConfigError, match=says):
        fit(model, [recording_of("a").whole()], [], FitOptions(tmp_path, settings=settings))


def test_separate_windows_without_validation_train_too(tmp_path):
    settings = {"windows": "separate", "frames_per_epoch": 8, "batch": 4, "epochs": 1, "half_window": 1}
    recording = recording_of("a", frames=40)
    predictor = fit("cnn-gru", [recording.whole()], [], FitOptions(tmp_path, threads=1, settings=settings))
    told = json.loads(predictor.provenance["behavior-cnn-gru-published_training"])
    assert told["batch"] == 4
    assert told["validation_losses"] is None


@pytest.mark.parametrize("model", ["roi-gru", "roi-lstm", "roi-rnn"])
def test_roi_networks_decode_a_mouse_they_never_saw(tmp_path, model):
    training, validation = recording_of("a", 1, frames=2400), recording_of("b", 2, frames=1200)
    recording = recording_of("c", 3, frames=1200)
    options = FitOptions(tmp_path, threads=1, epochs=4, settings={"learning_rate": 5e-3})
    predictor = fit(model, [training.whole()], [validation.whole()], options)
    probability = predictor.predict(recording)
    assert np.flatnonzero(np.isnan(probability)).tolist() == [*range(15), *range(1185, 1200)]
    assert known_auc(probability, recording) > 0.9
    predictor.save(tmp_path / "model.npz")
    np.testing.assert_array_equal(roi_networks.load(tmp_path / "model.npz").predict(recording), probability)
    with pytest.raises(DataError, match="no image to occlude"):
        predictor.predict(recording, np.zeros((32, 32), bool))


def test_roi_traces_are_detrended_and_scaled_over_the_session():
    trace = np.linspace(0, 50, 5000)[:, None] + np.sin(np.arange(5000) / 20)[:, None]
    scaled = roi_networks.published_traces(trace.astype(np.float32))
    assert scaled.min() == 0
    assert scaled.max() == 1
    middle = scaled[1000:-1000, 0]
    assert abs(np.polyfit(np.arange(len(middle)), middle, 1)[0] * len(middle)) < 0.02  # no slope is left


def test_roi_networks_take_a_subset_of_traces(tmp_path):
    options = FitOptions(tmp_path, threads=1, epochs=1, settings={"rois": ["L-11", "R-11"]})
    recording = recording_of("a")
    predictor = fit("roi-gru", [recording.whole()], [], options)
    assert predictor.network.rnn.input_size == 2
    assert np.isfinite(predictor.predict(replace(recording, rate_hz=29.9986))[15:-15]).all()
    with pytest.raises(DataError, match=r"a\.nwb: 20 Hz; this model was trained on 30 Hz"):
        predictor.predict(replace(recording, rate_hz=20.0))
    other = replace(recording, roi_traces=np.ones((240, 50), np.float32))
    with pytest.raises(DataError, match="no ROI 'L-11'; its 50 are 1 to 50"):
        predictor.predict(other)
