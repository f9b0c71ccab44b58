"""The published network on small made-up weights: its sums, its windows, and files that are not its checkpoints."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from decoders.checkpoint import Checkpoint
from decoders.reconstruction import load_encoder
from decoders.reconstruction.dwiseneuro import DwiseNeuro, DwiseNeuroConfig, initialise
from decoders.reconstruction.dwiseneuro_encoder import DwiseNeuroEncoder
from decoders.reconstruction.encoder import predict_mean
from rig.errors import CheckpointError, DataError

CONFIG = DwiseNeuroConfig(
    readout_outputs=(5, 4),
    core_features=(4, 7, 6),
    spatial_strides=(2, 1, 3),
    expansion_ratio=2,
    se_reduce_ratio=4,
    cortex_features=(8, 14),
)


@pytest.fixture(scope="module")
def network():
    return made_up(CONFIG)


def made_up(config, seed=0):
    """A network whose norms have forgotten their neutral start."""
    torch.manual_seed(seed)
    network = DwiseNeuro(config)
    initialise(network)
    network.train()
    with torch.no_grad():
        network(torch.randn(3, 5, 4, 12, 14) * 20, 0)
        for name, value in network.named_parameters():
            if name.endswith(("bn.weight", "bias")):
                value.add_(torch.randn_like(value) * 0.2)
    return network.eval().requires_grad_(False)


def saved(path, network, **params):
    stack = {"size": 4, "step": 2, "position": "last"}
    settings = {name: getattr(network.config, name) for name in network.config.__slots__}
    params = {"nn_module": ("dwiseneuro", settings), "frame_stack": stack, **params}
    torch.save({"model_name": "MouseModel", "params": params, "nn_state_dict": network.state_dict()}, path)
    return path


def plain(weights, config, x, mouse):
    """The network on (B, C, T, H, W) in three-dimensional convolutions, one published formula a line."""

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"{name}.bn.{key}"] for key in keys))

    def tile(x, channels):
        return torch.cat([x] * 9, dim=1)[:, :channels]

    def position(x, inverse):
        channels = 2 * len(inverse)
        waves = torch.zeros(*x.shape[2:], 3 * channels)
        for axis, size in enumerate(x.shape[2:]):
            angle = torch.arange(size)[:, None] * inverse
            shape = [size if at == axis else 1 for at in range(3)]
            wave = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1).view(*shape, channels)
            waves[..., axis * channels : (axis + 1) * channels] = wave
        return x + waves[..., : x.shape[1]].movedim(-1, 0)

    def block(x, name, stride, out):
        wide = len(weights[f"{name}.conv_pw.0.weight"])
        y = F.silu(norm(F.conv3d(x, weights[f"{name}.conv_pw.0.weight"]), f"{name}.conv_pw.1"))
        spatial = weights[f"{name}.spat_covn_dw.0.weight"]
        y = F.conv3d(y, spatial, stride=(1, stride, stride), padding=(0, 1, 1), groups=wide)
        y = F.silu(norm(y, f"{name}.spat_covn_dw.1"))
        y = F.conv3d(y, weights[f"{name}.temp_covn_dw.0.weight"], padding=(2, 0, 0), groups=wide)
        y = F.silu(norm(y, f"{name}.temp_covn_dw.1"))
        gate = y.mean((2, 3, 4), keepdim=True)
        gate = F.silu(
            F.conv3d(gate, weights[f"{name}.se.conv_reduce.weight"], weights[f"{name}.se.conv_reduce.bias"])
        )
        gate = F.conv3d(
            gate, weights[f"{name}.se.conv_expand.weight"], weights[f"{name}.se.conv_expand.bias"]
        )
        y = norm(F.conv3d(y * gate.sigmoid(), weights[f"{name}.conv_pwl.0.weight"]), f"{name}.conv_pwl.1")
        shortcut = F.interpolate(x, size=(x.shape[2], *y.shape[3:]), mode="nearest")
        return y + norm(tile(shortcut, out), f"{name}.bn_sc")

    x = norm(F.conv3d(x, weights["core.stem.0.weight"]), "core.stem.1")
    outs = [*config.core_features[1:], config.core_features[-1]]
    for at, (stride, out) in enumerate(zip(config.spatial_strides, outs, strict=True)):
        x = position(x, weights[f"core.blocks.{2 * at}.inv_freq"])
        x = block(x, f"core.blocks.{2 * at + 1}", stride, out)
    x = x.mean((3, 4))
    for at in range(len(config.cortex_features)):
        name = f"cortex.layers.{at}"
        y = F.silu(norm(F.conv1d(x, weights[f"{name}.conv.weight"], groups=2), f"{name}.bn"))
        y = y.view(len(y), 2, -1, y.shape[-1]).transpose(1, 2).flatten(1, 2)
        x = y + norm(tile(x, y.shape[1]), f"{name}.bn_sc")
    name = f"readouts.{mouse}.layer.1"
    drive = F.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], groups=2)
    return F.softplus(drive[:, : config.readout_outputs[mouse]], config.softplus_beta)


@pytest.mark.parametrize("mouse", [0, 1])
def test_the_network_is_the_published_formulas(network, mouse):
    windows = torch.randn(2, 5, 6, 13, 16) * 20
    expected = plain(network.state_dict(), CONFIG, windows, mouse)
    torch.testing.assert_close(network(windows, mouse), expected, rtol=1e-5, atol=1e-4)
    assert expected.std() > 0.01


def test_norms_that_learn_are_those_of_all_frames_and_pixels():
    network = made_up(replace(CONFIG, drop_rate=0.0, drop_path_rate=0.0))
    windows = torch.randn(2, 5, 6, 13, 16)
    network.train()
    network.core.stem(windows.permute(0, 2, 3, 4, 1))
    stem = F.conv3d(windows, network.core.stem[0].weight)
    fresh = torch.nn.BatchNorm3d(4).train()
    fresh(stem)
    network.core.stem[1].bn.reset_running_stats()
    network.core.stem(windows.permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(network.core.stem[1].bn.running_var, fresh.running_var)


def test_left_out_branches_and_channels_are_left_out_in_training_alone():
    network = made_up(replace(CONFIG, drop_path_rate=0.5))
    windows = torch.randn(4, 5, 6, 13, 16)
    assert torch.equal(network(windows, 0), network(windows, 0))
    network.train()
    assert not torch.equal(network(windows, 0), network(windows, 0))


def test_weights_are_drawn_by_the_outputs_of_a_weight():
    network = DwiseNeuro(replace(CONFIG, core_features=(64, 64), spatial_strides=(1, 1), expansion_ratio=8))
    torch.manual_seed(0)
    initialise(network)
    block = network.core.blocks[1]
    assert float(block.conv_pw[0].weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert float(block.spat_covn_dw[0].weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert not network.readouts[0].layer[1].bias.any()


def encoder_of(network, **changes):
    return DwiseNeuroEncoder(network, 4, 2, (40, 64), mice=("a", "b"), **changes)


def clip(frames=11, seed=0):
    draw = np.random.default_rng(seed)
    video = draw.uniform(0, 255, (36, 64, frames)).astype(np.float32)
    return video, *(draw.normal(1, 1, (2, frames)).astype(np.float32) for _ in range(2))


def test_a_clip_is_the_mean_of_its_windows(network):
    encoder, (video, behavior, pupil_center) = encoder_of(network), clip()
    planes = np.zeros((5, 11, 40, 64), np.float32)
    planes[0, :, 2:38] = np.moveaxis(video, -1, 0)
    planes[1:] = np.concatenate([behavior, pupil_center])[..., None, None]
    total, count = np.zeros((5, 11)), np.zeros(11)
    for start in range(11 - 6):
        window = slice(start, start + 7, 2)
        total[:, window] += network(torch.from_numpy(planes[None, :, window]), 0)[0].numpy()
        count[window] += 1
    np.testing.assert_allclose(encoder.predict(video, behavior, pupil_center), total / count, rtol=1e-5)


def test_a_bound_on_the_memory_changes_neither_answer_nor_gradient(network):
    inputs = torch.randn(2, 5, 11, 40, 64) * 10
    results = []
    for windows_at_once in (99, 3):
        given = inputs.clone().requires_grad_()
        answer = encoder_of(network, windows_at_once=windows_at_once).respond(given, 1)
        answer.square().sum().backward()
        results.append((answer.detach(), given.grad))
    torch.testing.assert_close(results[0], results[1])
    assert results[0][1].abs().max() > 0


def test_an_ensemble_answers_with_its_mean(network):
    encoders = [encoder_of(network), encoder_of(made_up(CONFIG, seed=1))]
    one, other = (encoder.predict(*clip()) for encoder in encoders)
    np.testing.assert_allclose(predict_mean(encoders, *clip()), (one + other) / 2, rtol=1e-5)
    assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({0: np.zeros((64, 36, 11))}, r"video is 64 x 36 x 11; valid is 36 x 64 x 11"),
        ({1: np.zeros((2, 9))}, r"behavior is 2 x 9; valid is 2 x 11"),
        (
            {2: np.full((2, 11), np.nan)},
            r"pupil_center has 22 values that are not finite, the first at \[0, 0\]",
        ),
        ({3: 2}, "mouse 2: unknown to the encoder; valid are 0 to 1"),
        (dict(enumerate(clip(6))), "a clip of 6 frames; valid for this encoder is 7 or more"),
    ],
)
def test_what_cannot_be_answered_is_refused(network, changed, told):
    given = dict(enumerate([*clip(), 0])) | changed
    with pytest.raises(DataError, match=told):
        encoder_of(network).predict(*given.values())


def test_a_published_checkpoint_comes_back(network, tmp_path):
    encoder = load_encoder(saved(tmp_path / "model.pth", network))
    assert (encoder.neurons, encoder.mice, encoder.shortest) == ((5, 4), ("", ""), 7)
    assert (encoder.input_size, encoder.padding) == ((64, 64), 0.0)
    mine = DwiseNeuroEncoder(network, 4, 2)
    np.testing.assert_array_equal(encoder.predict(*clip()), mine.predict(*clip()))
    assert not any(value.requires_grad for value in encoder.network.parameters())


class Intruder:
    """What a file must not be able to call."""

    def __reduce__(self):
        return (pytest.fail, ("code of the file was executed",))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (Intruder(), "not a checkpoint of tensors and plain values"),
        ([1, 2], "holds a list; valid is a dictionary"),
        ({"params": {}}, "not a checkpoint of DwiseNeuro: no 'nn_module'"),
        (
            {"params": {"nn_module": ("resnet", {}), "frame_stack": {"size": 4, "step": 2}}},
            "is 'resnet'; valid",
        ),
        ({"params": {"nn_module": ("dwiseneuro", {}), "frame_stack": {"size": 4}}}, "no 'step'"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, told):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=told) as refused:
        load_encoder(tmp_path / "model.pth")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"nn_module": ("dwiseneuro", {"readout_outputs": (5, 4), "depth": 3})}, "unknown setting 'depth'"),
        ({"nn_module": ("dwiseneuro", {"core_features": (4,)})}, "no 'readout_outputs'"),
        (
            {"nn_module": ("dwiseneuro", {"readout_outputs": (5, 4)})},
            "do not fit its architecture: Missing key",
        ),
        ({"responses_processor": ("log", {})}, "responses_processor is 'log'; valid is 'identity'"),
        (
            {"inputs_processor": ("stack_inputs", {"size": (32, 32)})},
            "of 32 x 32; valid is 'stack_inputs' of 36",
        ),
        ({"frame_stack": {"size": 0, "step": 2}}, "frame_stack has size 0 and step 2; valid are 1 or more"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(network, tmp_path, params, told):
    path = saved(tmp_path / "model.pth", network, **params)
    with pytest.raises(CheckpointError, match=told) as refused:
        load_encoder(path)
    assert "\n" not in str(refused.value)


def test_a_missing_a_truncated_and_another_file_are_refused(network, tmp_path):
    with pytest.raises(CheckpointError, match="no such encoder"):
        load_encoder(tmp_path / "none.pth")
    path = saved(tmp_path / "model.pth", network)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="damaged, or not a checkpoint"):
        load_encoder(path)
    Checkpoint("behavior-cnn", 36, 64, 30.0, {}).save(tmp_path / "other.npz")
    with pytest.raises(
        CheckpointError, match="holds a 'behavior-cnn' decoder; valid here is 'encoder-light'"
    ):
        load_encoder(tmp_path / "other.npz")


def test_the_live_decoder_comes_without_torch():
    code = "import sys, decoders.reconstruction.live; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("expansion_ratio", "core"), [(6, 3.08), (7, 3.67)])
def test_the_published_size_has_the_published_number_of_parameters(expansion_ratio, core):
    new, old = (7863, 7908, 8202, 7939, 8122), (7440, 7928, 8285, 7671, 7495)
    with torch.device("meta"):
        network = DwiseNeuro(DwiseNeuroConfig((*new, *old), expansion_ratio=expansion_ratio))
    parts = (network.core, network.cortex, network.readouts)
    millions = [sum(value.numel() for value in part.parameters()) / 1e6 for part in parts]
    assert millions == pytest.approx([core, 5.40, 161.6], abs=0.05)
