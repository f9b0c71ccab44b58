"""DwiseNeuro, the network that won Sensorium 2023: movie and behaviour to responses of neurons.

Architecture and names of the parameters are those of the published checkpoints (R. Baikulov, Zenodo
10.5281/zenodo.10155151); an encoder of whole clips is `decoders.reconstruction.dwiseneuro_encoder`.

Inside, a window is (B, T, H, W, C): a pointwise convolution is then a matrix product and both depthwise ones are
two-dimensional convolutions on views, which are two to three times faster than three-dimensional ones. In evaluation
mode every batch norm is folded into the weights of the convolution before it.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LONGEST_WAVE = 10_000.0  # published base of the positional encoding


@dataclass(frozen=True, slots=True)
class DwiseNeuroConfig:
    """Numbers of a network, by the names that published checkpoints give them.

    `readout_outputs` are the neurons of each mouse. Block i has `core_features[i]` channels in and
    `core_features[i + 1]` out, and the spatial stride `spatial_strides[i]`; the last keeps its channels.
    """

    readout_outputs: tuple[int, ...]
    in_channels: int = 5
    core_features: tuple[int, ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256)
    spatial_strides: tuple[int, ...] = (2, 1, 1, 1, 2, 1, 1, 2, 1)
    spatial_kernel: int = 3
    temporal_kernel: int = 5
    expansion_ratio: int = 7
    se_reduce_ratio: int = 32
    cortex_features: tuple[int, ...] = (1024, 2048, 4096)
    groups: int = 2
    softplus_beta: float = 0.07
    drop_rate: float = 0.4
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        if not self.readout_outputs or not self.core_features or not self.cortex_features:
            raise ValueError("readout_outputs, core_features and cortex_features must not be empty")
        if len(self.core_features) != len(self.spatial_strides):
            raise ValueError(
                f"core_features has {len(self.core_features)} values and spatial_strides"
                f" {len(self.spatial_strides)}; valid is one stride a block"
            )
        grouped = (self.core_features[-1], *self.cortex_features)
        if any(features % self.groups for features in grouped):
            raise ValueError(
                f"the last of core_features and cortex_features are {', '.join(map(str, grouped))}; valid are"
                f" multiples of {self.groups}, the groups that they are divided into"
            )
        if min(self.core_features) * self.expansion_ratio < self.se_reduce_ratio:
            raise ValueError(
                f"se_reduce_ratio {self.se_reduce_ratio} leaves nothing of {min(self.core_features)} core_features,"
                f" {self.expansion_ratio} times expanded; valid is their product or less"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Read the architecture of a checkpoint; raises `ValueError` naming an unknown or missing setting."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; valid are {', '.join(sorted(known))}")
        if "readout_outputs" not in settings:
            raise ValueError("no 'readout_outputs', the numbers of neurons")
        return cls(**{name: _plain(value) for name, value in settings.items()})


def _plain(value: Any) -> Any:
    return tuple(int(item) for item in value) if isinstance(value, list | tuple) else value


class _NormAct(nn.Module):
    """Batch norm over the last axis, then SiLU or nothing."""

    def __init__(self, features: int, *, active: bool = True) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(features)  # over rows of (rows, C): the same sums as over (B, C, T, H, W)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = self.bn(x.reshape(-1, x.shape[-1]))
        return self.act(normal.view(x.shape))

    def act(self, x: Tensor) -> Tensor:
        return F.silu(x) if self.active else x

    def affine(self) -> tuple[Tensor, Tensor]:
        """Factor and offset of the norm in evaluation mode, (C,) each."""
        bn = self.bn
        scale = bn.weight * torch.rsqrt(cast("Tensor", bn.running_var) + bn.eps)
        return scale, bn.bias - cast("Tensor", bn.running_mean) * scale

    def after(self, linear: Callable[[Tensor, Tensor | None], Tensor], weight: Tensor) -> Tensor:
        """Act on the norm of `linear(weight, bias)`, in evaluation mode folded into weight (C, ...) and bias."""
        if self.training:
            normal: Tensor = self(linear(weight, None))
            return normal
        scale, shift = self.affine()
        return self.act(linear(weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift))


class _ConvNormAct(nn.Sequential):
    """A convolution without bias, batch norm, SiLU or nothing, on (B, T, H, W, C)."""

    def __init__(self, conv: nn.Conv3d, *, active: bool = True) -> None:
        super().__init__(conv, _NormAct(conv.out_channels, active=active))

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = cast("nn.Conv3d", self[0]), cast("_NormAct", self[1])
        convolve = _convolution(conv)
        return norm.after(lambda weight, bias: convolve(x, weight, bias), conv.weight)


def _pointwise(features: int, out_features: int, *, active: bool = True) -> _ConvNormAct:
    return _ConvNormAct(nn.Conv3d(features, out_features, 1, bias=False), active=active)


def _depthwise(features: int, kernel: tuple[int, int, int], stride: int = 1) -> _ConvNormAct:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    steps = (1, stride, stride)
    return _ConvNormAct(nn.Conv3d(features, features, kernel, steps, padding, groups=features, bias=False))


def _convolution(conv: nn.Conv3d) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """How a convolution is computed on (B, T, H, W, C); its weight keeps the published shape."""
    if conv.groups == 1:
        return lambda x, weight, bias: F.linear(x, weight.flatten(1), bias)
    frames = conv.kernel_size[0]
    if frames == 1:
        return lambda x, weight, bias: _spatial(x, weight[:, :, 0], bias, conv.stride[1])
    return lambda x, weight, bias: _temporal(x, weight[..., 0], bias)


def _spatial(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Depthwise over height and width: the frames are folded into the batch."""
    batch, frames = x.shape[:2]
    folded = x.flatten(0, 1).permute(0, 3, 1, 2)  # (B T, C, H, W), channels last in memory
    answer = F.conv2d(folded, weight, bias, stride, weight.shape[-1] // 2, groups=x.shape[-1])
    return torch.unflatten(answer.permute(0, 2, 3, 1), 0, (batch, frames))


def _temporal(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise over time: height and width are folded into one axis."""
    folded = x.flatten(2, 3).permute(0, 3, 1, 2)  # (B, C, T, H W), channels last in memory
    answer = F.conv2d(folded, weight, bias, padding=(weight.shape[2] // 2, 0), groups=x.shape[-1])
    return torch.unflatten(answer.permute(0, 2, 3, 1), 2, x.shape[2:4])


class _Position(nn.Module):
    """Adds sines and cosines of time, row and column: a third of the channels each, the last cut short."""

    inv_freq: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        waves = math.ceil(features / 6)
        self.register_buffer("inv_freq", _LONGEST_WAVE ** -(torch.arange(waves) / waves))

    def forward(self, x: Tensor) -> Tensor:
        _, frames, height, width, features = x.shape
        grid = (frames, height, width, -1)
        axes = [
            self._waves(frames)[:, None, None].expand(grid),
            self._waves(height)[None, :, None].expand(grid),
            self._waves(width)[None, None, :].expand(grid),
        ]
        return x + torch.cat(axes, dim=-1)[..., :features].to(x.dtype)

    def _waves(self, length: int) -> Tensor:
        """Sines, then cosines, of every wavelength, (length, channels)."""
        angles = torch.arange(length, device=self.inv_freq.device)[:, None] * self.inv_freq
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the means of all of them."""

    def __init__(self, features: int, reduce_ratio: int) -> None:
        super().__init__()
        reduced = features // reduce_ratio
        self.conv_reduce = nn.Conv3d(features, reduced, 1)
        self.conv_expand = nn.Conv3d(reduced, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((1, 2, 3))  # (B, C)
        hidden = F.silu(F.linear(means, self.conv_reduce.weight.flatten(1), self.conv_reduce.bias))
        gate = torch.sigmoid(F.linear(hidden, self.conv_expand.weight.flatten(1), self.conv_expand.bias))
        return x * gate[:, None, None, None]


class _Block(nn.Module):
    """Inverted residual: expand, depthwise in space, depthwise in time, gate, project; plus the shortcut."""

    def __init__(
        self, features: int, out_features: int, stride: int, config: DwiseNeuroConfig, drop: float
    ) -> None:
        super().__init__()
        wide, kernel = features * config.expansion_ratio, config.spatial_kernel
        self.conv_pw = _pointwise(features, wide)
        self.spat_covn_dw = _depthwise(wide, (1, kernel, kernel), stride)  # misspelt in every checkpoint
        self.temp_covn_dw = _depthwise(wide, (config.temporal_kernel, 1, 1))
        self.se = _SqueezeExcite(wide, config.se_reduce_ratio)
        self.conv_pwl = _pointwise(wide, out_features, active=False)
        self.bn_sc = _NormAct(out_features, active=False)
        self.out_features, self.stride, self.drop = out_features, stride, drop

    def forward(self, x: Tensor) -> Tensor:
        y = self.temp_covn_dw(self.spat_covn_dw(self.conv_pw(x)))
        y = self.conv_pwl(self.se(y))
        shortcut = _tiled(_strided(x, self.stride), self.out_features)
        kept: Tensor = self.bn_sc(shortcut)
        return _drop_path(y, self.drop, training=self.training) + kept


def _strided(x: Tensor, stride: int) -> Tensor:
    """Nearest pixels of (B, T, H, W, C) at 1 / stride of the size, rounded up."""
    if stride == 1:
        return x
    rows, columns = (
        torch.arange(-(-size // stride), device=x.device) * size // -(-size // stride)
        for size in x.shape[2:4]
    )
    return x[:, :, rows][:, :, :, columns]


def _tiled(x: Tensor, features: int) -> Tensor:
    """Channels of (..., C) repeated until there are enough, then cut."""
    if x.shape[-1] == features:
        return x
    return torch.cat([x] * -(-features // x.shape[-1]), dim=-1)[..., :features]


def _drop_path(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """In training, leave the whole branch out for a share `rate` of the samples."""
    if not training or not rate:
        return x
    kept = torch.rand([len(x)] + [1] * (x.dim() - 1), device=x.device) >= rate
    return x * kept / (1 - rate)


class _Core(nn.Module):
    """Stem and blocks: windows (B, T, H, W, C) to features (B, T, h, w, C)."""

    def __init__(self, config: DwiseNeuroConfig) -> None:
        super().__init__()
        features = config.core_features
        self.stem = _pointwise(config.in_channels, features[0], active=False)
        parts: list[nn.Module] = []
        outs, count = [*features[1:], features[-1]], len(features)
        for at, (inner, outer, stride) in enumerate(zip(features, outs, config.spatial_strides, strict=True)):
            drop = config.drop_path_rate * at / count
            parts += [_Position(inner), _Block(inner, outer, stride, config, drop)]
        self.blocks = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.blocks(self.stem(x))
        return answer


class _CortexLayer(nn.Module):
    """Grouped linear layer over the channels of every frame, channels shuffled; plus the shortcut."""

    def __init__(self, features: int, out_features: int, groups: int, drop: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(features, out_features, 1, groups=groups, bias=False)
        self.bn = _NormAct(out_features)
        self.bn_sc = _NormAct(out_features, active=False)
        self.groups, self.drop = groups, drop

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn.after(lambda weight, bias: _grouped(x, weight, bias, self.groups), self.conv.weight)
        y = torch.unflatten(y, -1, (self.groups, -1)).transpose(-1, -2).flatten(-2)  # the channel shuffle
        shortcut: Tensor = self.bn_sc(_tiled(x, y.shape[-1]))
        return _drop_path(y, self.drop, training=self.training) + shortcut


def _grouped(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Pointwise convolution of (B, T, C) in groups, as one batch of matrix products."""
    split = torch.unflatten(x.flatten(0, 1), -1, (groups, -1)).transpose(0, 1)  # (groups, B T, C / groups)
    matrix = torch.unflatten(weight[..., 0], 0, (groups, -1)).transpose(1, 2)  # (groups, C / groups, out...)
    answer = torch.unflatten(torch.bmm(split, matrix).transpose(0, 1).flatten(1), 0, x.shape[:2])
    return answer if bias is None else answer + bias


class _Cortex(nn.Module):
    def __init__(self, features: int, config: DwiseNeuroConfig) -> None:
        super().__init__()
        widths = [features, *config.cortex_features]
        self.layers = nn.Sequential(
            *(
                _CortexLayer(inner, outer, config.groups, config.drop_path_rate)
                for inner, outer in itertools.pairwise(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layers(x)
        return answer


class _Readout(nn.Module):
    """Responses of one mouse's neurons: dropout of whole channels, grouped linear layer, softplus."""

    def __init__(self, features: int, neurons: int, config: DwiseNeuroConfig) -> None:
        super().__init__()
        rounded = -(-neurons // config.groups) * config.groups
        conv = nn.Conv1d(features, rounded, 1, groups=config.groups)
        self.layer = nn.Sequential(nn.Dropout1d(config.drop_rate), conv)
        self.neurons, self.groups, self.beta = neurons, config.groups, config.softplus_beta

    def forward(self, x: Tensor) -> Tensor:
        dropped = self.layer[0](x.transpose(1, 2)).transpose(1, 2)
        conv = cast("nn.Conv1d", self.layer[1])
        drive = _grouped(dropped, conv.weight, conv.bias, self.groups)[..., : self.neurons]
        return F.softplus(drive, self.beta)


class DwiseNeuro(nn.Module):
    """The published network; see the module."""

    def __init__(self, config: DwiseNeuroConfig) -> None:
        super().__init__()
        self.config = config
        self.core = _Core(config)
        self.cortex = _Cortex(config.core_features[-1], config)
        self.readouts = nn.ModuleList(
            _Readout(config.cortex_features[-1], neurons, config) for neurons in config.readout_outputs
        )

    def forward(self, windows: Tensor, mouse: int) -> Tensor:
        """Windows (B, C, T, H, W) in raw grey levels and raw behaviour to responses of a mouse, (B, N, T)."""
        return self.respond(windows.permute(0, 2, 3, 4, 1), mouse).transpose(1, 2)

    def features(self, windows: Tensor) -> Tensor:
        """Windows (B, T, H, W, C) to what all readouts share, (B, T, features)."""
        features: Tensor = self.cortex(self.core(windows).mean((2, 3)))
        return features

    def respond(self, windows: Tensor, mouse: int) -> Tensor:
        """Windows (B, T, H, W, C) to responses (B, T, N)."""
        responses: Tensor = self.readouts[mouse](self.features(windows))
        return responses


def initialise(network: DwiseNeuro) -> None:
    """Draw weights as published: normal with variance 2 / (outputs of a weight), biases 0, norms 1."""
    for part in network.modules():
        if isinstance(part, nn.Conv1d | nn.Conv3d):
            fan_out = math.prod(part.kernel_size) * part.out_channels / part.groups
            nn.init.normal_(part.weight, 0.0, math.sqrt(2.0 / fan_out))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
