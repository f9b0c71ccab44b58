"""EfficientNet-B0 in plain torch, as the published run/rest decoder uses it (efficientnet-pytorch 0.7.1).

Tan and Le 2019 (arXiv 1905.11946); padding, batch-norm numbers, drop-connect and dropout are those of that package,
which Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074) trained. The package computes its paddings once for
224x224 images and keeps them for any other size; so does this.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rig.errors import CheckpointError

FEATURES = 1280
_NORM_EPSILON, NORM_MOMENTUM = 1e-3, 0.01  # TensorFlow's, kept by efficientnet-pytorch
_DROP_CONNECT, _DROPOUT = 0.2, 0.2
_SQUEEZE = 4  # squeeze-and-excitation has a quarter of the block's input channels
_STEM = 32
# kernel, stride, expansion, output channels, repeats: table 1 of arXiv 1905.11946
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STATE = (
    "weight",
    "bias",
    "running_mean",
    "running_var",
)  # what a layer keeps; counts of batches are not needed

Library = Literal["torchvision", "timm", "efficientnet-pytorch"]


@dataclass(frozen=True, slots=True)
class BlockConfig:
    """One inverted residual block, and where it stands: `stage` and `place` count from 0."""

    stage: int
    place: int
    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


def block_configs() -> list[BlockConfig]:
    """List the 16 blocks of B0 in order."""
    blocks, last = [], _STEM
    for stage, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES):
        for place in range(repeats):
            first = place == 0
            blocks.append(
                BlockConfig(stage, place, kernel, stride if first else 1, expansion, last, channels)
            )
            last = channels
    return blocks


class EfficientNetB0(nn.Module):
    """Images (n, 3, H, W) to one logit each (n,); 4,008,829 parameters, 1,280 features."""

    def __init__(self) -> None:
        super().__init__()
        configs = block_configs()
        self.stem = _SameConv(3, _STEM, 3, stride=2)
        self.stem_norm = _norm(_STEM)
        self.blocks = nn.ModuleList(
            _Block(config, _DROP_CONNECT * index / len(configs)) for index, config in enumerate(configs)
        )
        self.head = _SameConv(configs[-1].channels_out, FEATURES, 1)
        self.head_norm = _norm(FEATURES)
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(FEATURES, 1)

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) to the means of the last maps, (n, 1280)."""
        maps = F.silu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            maps = block(maps)
        return F.silu(self.head_norm(self.head(maps))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) to logits (n,)."""
        logits: Tensor = self.classifier(self.dropout(self.features(images))).squeeze(-1)
        return logits


class _SameConv(nn.Conv2d):
    """Convolution whose output has 1/stride of its input's edge; an odd pixel of padding goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        total = kernel - stride  # for an even edge, as all of 224, 112, 56, 28 and 14 are
        before = total // 2
        super().__init__(
            inputs, outputs, kernel, stride, before if total % 2 == 0 else 0, groups=groups, bias=False
        )
        self._uneven = (before, total - before) * 2 if total % 2 else ()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """(n, C, H, W) to (n, C', H / stride, W / stride)."""
        return super().forward(F.pad(input, self._uneven) if self._uneven else input)


class _Block(nn.Module):
    """Inverted residual with squeeze and excitation; left out at random in training where it can be."""

    def __init__(self, config: BlockConfig, drop: float) -> None:
        super().__init__()
        inputs, outputs, inner = (
            config.channels_in,
            config.channels_out,
            config.channels_in * config.expansion,
        )
        self.expand = _SameConv(inputs, inner, 1) if config.expansion > 1 else None
        self.expand_norm = _norm(inner) if config.expansion > 1 else None
        self.depthwise = _SameConv(inner, inner, config.kernel, config.stride, groups=inner)
        self.depthwise_norm = _norm(inner)
        self.squeeze = nn.Conv2d(inner, max(1, inputs // _SQUEEZE), 1)
        self.excite = nn.Conv2d(max(1, inputs // _SQUEEZE), inner, 1)
        self.project = _SameConv(inner, outputs, 1)
        self.project_norm = _norm(outputs)
        self._residual = config.stride == 1 and inputs == outputs
        self._drop = drop

    def forward(self, maps: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C', H / stride, W / stride)."""
        inner = maps
        if self.expand is not None and self.expand_norm is not None:
            inner = F.silu(self.expand_norm(self.expand(maps)))
        inner = F.silu(self.depthwise_norm(self.depthwise(inner)))
        gate = self.excite(F.silu(self.squeeze(inner.mean((2, 3), keepdim=True))))
        output: Tensor = self.project_norm(self.project(torch.sigmoid(gate) * inner))
        return self._drop_connect(output) + maps if self._residual else output

    def _drop_connect(self, maps: Tensor) -> Tensor:
        if not self.training or not self._drop:
            return maps
        kept = torch.rand(len(maps), 1, 1, 1, device=maps.device) >= self._drop
        return maps / (1 - self._drop) * kept


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, _NORM_EPSILON, NORM_MOMENTUM)


def load_imagenet(network: EfficientNetB0, path: Path) -> Library:
    """Put ImageNet weights into everything but the classifier; return which library's names the file has.

    Files that `torch.save` wrote of the state of torchvision's, timm's or efficientnet-pytorch's B0. The published
    decoder started from the last; the others were trained with other paddings and batch-norm epsilons.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, needs code to be executed, or does not hold exactly these weights.
    """
    weights = _read_weights(path)
    library = next((name for name, stem in _STEM_NAME.items() if f"{stem}.weight" in weights), None)
    if library is None:
        raise CheckpointError(
            f"{path}: no EfficientNet weights by any known name; valid are those of {', '.join(_STEM_NAME)}"
        )
    own, names = network.state_dict(), dict(library_names(library))
    found = {}
    for key, tensor in own.items():
        layer, _, state = key.rpartition(".")
        if layer not in names or state not in _STATE:
            continue
        theirs = f"{names[layer]}.{state}"
        if theirs not in weights or weights[theirs].shape != tensor.shape:
            has = tuple(weights[theirs].shape) if theirs in weights else "nothing"
            raise CheckpointError(
                f"{path}: {has} for {theirs} ({library}); valid is {tuple(tensor.shape)}: EfficientNet-B0"
            )
        found[key] = weights[theirs]
    network.load_state_dict(found, strict=False)
    return library


def library_names(library: Library) -> Iterator[tuple[str, str]]:
    """Every layer but the classifier: our name and the library's."""
    ends = _ENDS[library]
    yield from zip(("stem", "stem_norm", "head", "head_norm"), ends, strict=True)
    for index, block in enumerate(block_configs()):
        prefix = _PREFIX[library].format(
            index=index, stage=block.stage, tv_stage=block.stage + 1, place=block.place
        )
        ours = _LAYERS if block.expansion > 1 else _LAYERS[2:]
        theirs = (_EXPANDING if block.expansion > 1 else _PLAIN)[library]
        for own, other in zip(ours, theirs, strict=True):
            yield f"blocks.{index}.{own}", f"{prefix}.{other}"


_LAYERS = (
    "expand", "expand_norm", "depthwise", "depthwise_norm", "squeeze", "excite", "project", "project_norm",
)  # fmt: skip
_STEM_NAME: dict[Library, str] = {
    "torchvision": "features.0.0",
    "timm": "conv_stem",
    "efficientnet-pytorch": "_conv_stem",
}
_ENDS: dict[Library, tuple[str, ...]] = {
    "torchvision": ("features.0.0", "features.0.1", "features.8.0", "features.8.1"),
    "timm": ("conv_stem", "bn1", "conv_head", "bn2"),
    "efficientnet-pytorch": ("_conv_stem", "_bn0", "_conv_head", "_bn1"),
}
_PREFIX: dict[Library, str] = {
    "torchvision": "features.{tv_stage}.{place}.block",
    "timm": "blocks.{stage}.{place}",
    "efficientnet-pytorch": "_blocks.{index}",
}
_EXPANDING: dict[Library, tuple[str, ...]] = {
    "torchvision": ("0.0", "0.1", "1.0", "1.1", "2.fc1", "2.fc2", "3.0", "3.1"),
    "timm": ("conv_pw", "bn1", "conv_dw", "bn2", "se.conv_reduce", "se.conv_expand", "conv_pwl", "bn3"),
    "efficientnet-pytorch": (
        "_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_se_reduce", "_se_expand", "_project_conv", "_bn2",
    ),
}  # fmt: skip
_PLAIN: dict[Library, tuple[str, ...]] = {  # the first block, which does not expand
    "torchvision": ("0.0", "0.1", "1.fc1", "1.fc2", "2.0", "2.1"),
    "timm": ("conv_dw", "bn1", "se.conv_reduce", "se.conv_expand", "conv_pw", "bn2"),
    "efficientnet-pytorch": _EXPANDING["efficientnet-pytorch"][2:],
}


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # nothing in the file is executed
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file of weights") from None
    except Exception as error:  # torch names no base class for what a broken file raises
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as weights alone: {reason}") from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: holds no named tensors; valid is the state of an EfficientNet-B0")
    return weights
