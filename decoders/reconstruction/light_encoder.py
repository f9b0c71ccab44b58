"""The light encoder: movies and behaviour to responses, causal, small enough to be trained on a CPU.

A core that all mice share: spatial filters, then causal temporal ones, then simple responses and energies of pairs in
quadrature (Adelson & Bergen 1985, doi 10.1364/JOSAA.2.000284), divided by the local contrast (Heeger 1992,
doi 10.1017/S0952523800009640), and one more convolution over these. A neuron reads the maps through a Gaussian
window, whose place and width are learnt, with weights of its own; running and pupil multiply and shift what it reads.
Everything is smooth, as the movie is later found by the gradient. The response at a frame depends on no later one.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from decoders.checkpoint import Checkpoint
from decoders.reconstruction.encoder import HEIGHT_PX, LIGHT_KIND, WIDTH_PX, predict_clip
from rig.errors import CheckpointError

GREY, CONTRAST = 110.0, 60.0  # levels: near the mean and sd of natural clips; what remains is learnt
_SIGNALS = 4  # pupil dilation, running speed, pupil centre x and y
_BEHAVIOUR_S = (0.15, 0.6, 2.5)  # time constants of the behaviour's running means, beside its present value
_FARTHEST = 5.0  # standard deviations: a behaviour beyond is taken as this
_PERIODS_PX = (7.0, 12.0, 20.0)  # of the first filters: 0.14, 0.08, 0.05 cycles/degree at 1.9 degrees/px
_ORIENTATIONS = 4
_FILTERS = 2 * _ORIENTATIONS * len(_PERIODS_PX)
_USUAL_DRIVE = 4.0  # sd of what a filter of unit norm sees in natural movies
_NARROWEST = 0.5  # cells of the map: a narrower window would see no gradient of its place
_FAINTEST = 1e-5  # of a window's peak: what is less is taken as nothing
_REACH = 5.0  # cells that a window moves when a weight changes by 1
_MOST_LOG_GAIN = 2.0
_TOGETHER = 250  # neurons: what all of a large mouse see would not stay in the processor's cache
_PIECE = 300  # frames of a clip at once, so that memory does not grow with it
_NETWORK = "network."  # before the names of its arrays in a checkpoint


@dataclass(frozen=True, slots=True)
class LightConfig:
    """Sizes of the network.

    `stride_px` is the distance of the maps' cells. `taps` and `output_taps` are frames of the movie's and of the
    response's temporal filters; `features` is the number of maps of the last convolution, `hidden` that of the units
    that see the behaviour.
    """

    neurons: tuple[int, ...]
    rate_hz: float = 30.0
    height_px: int = HEIGHT_PX
    width_px: int = WIDTH_PX
    kernel_px: int = 15
    stride_px: int = 3
    taps: int = 12
    features: int = 32
    hidden: int = 12
    output_taps: int = 5

    @property
    def memory(self) -> int:
        """Frames of the movie that a response depends on, the present one included."""
        return self.taps + self.output_taps - 1

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the maps."""
        return -(-self.height_px // self.stride_px), -(-self.width_px // self.stride_px)


class Core(nn.Module):
    """Maps of what a movie shows: (B, T, H, W), standardised, to (B, T, maps, cells)."""

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        self.config = config
        px = config.kernel_px
        self.space = nn.Conv2d(1, _FILTERS, px, config.stride_px, px // 2, bias=False)
        self.time = nn.Conv2d(_FILTERS, 3 * _FILTERS, (config.taps, 1), bias=False)
        self.plain = 2 * _FILTERS  # simple responses, then energies
        self.mix = nn.Conv2d(self.plain, config.features, 3, padding=1)
        self.maps = self.plain + config.features
        self.half_contrast = nn.Parameter(torch.zeros(()))
        with torch.no_grad():
            self.space.weight.copy_(_first_filters(px))
            self.time.weight.copy_(_first_kernels(config.taps))

    def delay(self, frames: int) -> None:
        """Let the temporal filters answer later, before training."""
        with torch.no_grad():
            self.time.weight.copy_(F.pad(self.time.weight, (0, 0, 0, frames))[:, :, frames:])

    def forward(self, video: Tensor) -> Tensor:
        """See every frame with those before it; before the first is grey."""
        return self.mapped(F.pad(self.filtered(video), (0, 0, self.config.taps - 1, 0)))

    def filtered(self, video: Tensor) -> Tensor:
        """What the spatial filters see in every frame, (B, filters, T, cells)."""
        batch, frames = video.shape[:2]
        seen = self.space(video.flatten(0, 1).unsqueeze(1).contiguous(memory_format=torch.channels_last))
        by_frame = torch.unflatten(seen, 0, (batch, frames))
        return by_frame.flatten(3).transpose(1, 2)

    def mapped(self, seen: Tensor) -> Tensor:
        """Maps (B, T, maps, cells) of what the filters saw in these frames and the `taps` - 1 before."""
        batch, frames = seen.shape[0], seen.shape[2] - self.config.taps + 1
        rows, columns = self.config.cells
        simple, even, odd = self.time(seen).split(_FILTERS, 1)
        energy = torch.sqrt(even.square() + odd.square() + 1e-3)
        plain = torch.cat([simple, energy], 1).transpose(1, 2).reshape(-1, self.plain, rows, columns)
        contrast = F.avg_pool2d(energy.mean(1).view(-1, 1, rows, columns), 5, 1, 2, count_include_pad=False)
        plain = plain / (F.softplus(self.half_contrast) + contrast)
        maps = torch.cat([plain, F.elu(self.mix(plain))], 1)
        return torch.unflatten(maps.flatten(2), 0, (batch, frames))


def _first_filters(kernel_px: int) -> Tensor:
    """Gabor filters (filters, 1, px, px): periods x orientations x even and odd."""
    at = torch.arange(kernel_px) - kernel_px // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    filters = []
    for period in _PERIODS_PX:
        window = torch.exp(-(x**2 + y**2) / (2 * (0.35 * period) ** 2))
        for k in range(_ORIENTATIONS):
            angle = math.pi * k / _ORIENTATIONS
            phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period
            filters += [window * torch.cos(phase), window * torch.sin(phase)]
    filters = [one / one.norm() for one in filters]
    return torch.stack(filters)[:, None] / _USUAL_DRIVE


def _first_kernels(taps: int) -> Tensor:
    """Temporal filters (3 x filters, filters, taps, 1): one of each spatial filter, then moving pairs.

    The pair of an even and odd spatial filter is selective for one direction of motion or the other, alternating.
    """
    age = torch.arange(taps - 1, -1, -1).float()  # frames before the present one
    early, late = (_biphasic(age - delay) for delay in (1.0, 2.5))
    weights = torch.zeros(3, _FILTERS, _FILTERS, taps)  # simple, even, odd
    for s in range(0, _FILTERS, 2):
        weights[0, s, s], weights[0, s + 1, s + 1] = early, early
        for direction, place in ((1.0, s), (-1.0, s + 1)):
            weights[1, place, s], weights[1, place, s + 1] = early, -direction * late
            weights[2, place, s + 1], weights[2, place, s] = early, direction * late
    return weights.flatten(0, 1)[..., None]


def _biphasic(age: Tensor) -> Tensor:
    x = (age / 1.0).clamp(min=0)
    kernel = x**2 * torch.exp(-x) / 2 - 0.5 * x**4 * torch.exp(-x) / 24
    return kernel / kernel.abs().sum()


class Readout(nn.Module):
    """Neurons of one mouse: maps and behaviour to responses, each divided by its neuron's standard deviation."""

    place: Tensor
    signal_mean: Tensor
    signal_std: Tensor
    response_std: Tensor

    def __init__(self, neurons: int, maps: int, config: LightConfig) -> None:
        super().__init__()
        self._cells = config.cells
        self.offset = nn.Parameter(torch.zeros(neurons, 2))  # of the window's centre from `place`, as learnt
        self.log_width = nn.Parameter(torch.zeros(neurons))  # cells
        self.weight = nn.Parameter(torch.zeros(neurons, maps))
        self.bias = nn.Parameter(torch.zeros(neurons))
        self.log_scale = nn.Parameter(torch.zeros(neurons))
        self.gain = nn.Parameter(torch.zeros(neurons, config.hidden))
        self.shift = nn.Parameter(torch.zeros(neurons, config.hidden))
        self.state = nn.Linear(_SIGNALS * (1 + len(_BEHAVIOUR_S)), config.hidden)
        self.smear = nn.Parameter(-2.0 * torch.arange(config.output_taps).flip(0).float())
        self.register_buffer(
            "place", torch.zeros(neurons, 2)
        )  # where training began: row and column, in cells
        self.register_buffer("signal_mean", torch.zeros(_SIGNALS))
        self.register_buffer("signal_std", torch.ones(_SIGNALS))
        self.register_buffer("response_std", torch.ones(neurons))

    def windows(self) -> Tensor:
        """Gaussian windows over the cells, (cells, N), each of sum 1."""
        profiles = []
        width = _NARROWEST + self.log_width.exp()
        centre = self.place + _REACH * self.offset
        for axis, count in enumerate(self._cells):
            at = torch.arange(count, device=width.device)[:, None]
            profiles.append(torch.exp(-(((at - centre[:, axis]) / width) ** 2) / 2))
        window = (profiles[0][:, None] * profiles[1]).flatten(0, 1)
        window = window * (
            window > _FAINTEST
        )  # numbers below the smallest normal one would take 100 x the time
        return window / (window.sum(0) + _FAINTEST)

    def seen(self, maps: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Maps (T, maps, cells) within the windows of some neurons after others: which, and what (some, maps, T)."""
        windows, by_cell = self.windows().T, maps.permute(2, 1, 0).flatten(1)
        for first in range(0, len(windows), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            yield some, torch.unflatten(windows[some] @ by_cell, 1, (maps.shape[1], -1))

    def forward(self, maps: Tensor, signals: Tensor) -> Tensor:
        """Maps (B, T, maps, cells) and behaviour with its history (B, T, signals) to responses (B, N, T)."""
        read = [torch.bmm(self.weight[some, None], x)[:, 0] for some, x in self.seen(maps.flatten(0, 1))]
        drive = torch.unflatten(torch.cat(read).T, 0, maps.shape[:2]) + self.bias
        state = torch.tanh(self.state(signals))
        gain = torch.exp(_MOST_LOG_GAIN * torch.tanh(state @ self.gain.T / _MOST_LOG_GAIN))
        rate = F.softplus(gain * drive + state @ self.shift.T) * self.log_scale.exp()
        padded = _held_before(rate.transpose(1, 2), self.smear.numel() - 1)
        return padded.unfold(2, self.smear.numel(), 1) @ self.smear.softmax(0)


def _held_before(signals: Tensor, frames: int) -> Tensor:
    """Put frames equal to the first before (..., T); torch's own padding is not repeatable on a GPU."""
    return torch.cat([signals[..., :1].expand(*signals.shape[:-1], frames), signals], -1)


class LightNetwork(nn.Module):
    """The core, and the neurons of every mouse."""

    def __init__(self, config: LightConfig) -> None:
        super().__init__()
        self.config = config
        self.core = Core(config)
        self._readouts = [Readout(n, self.core.maps, config) for n in config.neurons]
        self.readouts = nn.ModuleList(self._readouts)

    def readout(self, mouse: int) -> Readout:
        """Neurons of one mouse."""
        return self._readouts[mouse]

    def see(self, video: Tensor) -> Tensor:
        """Maps (B, T, maps, cells) of a movie (B, T, H, W) in grey levels."""
        maps: Tensor = self.core((video - GREY) / CONTRAST)
        return maps

    def history(self, signals: Tensor, mouse: int) -> Tensor:
        """Behaviour (B, 4, T) as the readout takes it, with its running means, causal: (B, T, signals)."""
        readout = self.readout(mouse)
        standard = (signals - readout.signal_mean[:, None]) / readout.signal_std[:, None]
        parts = [standard.clamp(-_FARTHEST, _FARTHEST)]
        for constant_s in _BEHAVIOUR_S:
            decay = math.exp(-1 / (constant_s * self.config.rate_hz))
            length = min(signals.shape[2], math.ceil(4 * constant_s * self.config.rate_hz))
            kernel = decay ** torch.arange(length - 1, -1, -1, device=signals.device, dtype=signals.dtype)
            kernel = (kernel / kernel.sum()).expand(_SIGNALS, 1, -1)
            parts.append(F.conv1d(_held_before(parts[0], length - 1), kernel, groups=_SIGNALS))
        return torch.cat(parts, 1).transpose(1, 2)

    def forward(self, video: Tensor, signals: Tensor, mouse: int) -> Tensor:
        """Movie (B, T, H, W) and behaviour (B, 4, T) to responses (B, N, T), in standard deviations."""
        responses: Tensor = self.readout(mouse)(self.see(video), self.history(signals, mouse))
        return responses


@dataclass(frozen=True, slots=True)
class LightEncoder:
    """A trained network in evaluation mode; see `decoders.reconstruction.Encoder`.

    `knowledge` is what was measured in training and an inversion can use, `decoders.reconstruction.knowledge`.
    """

    kind: ClassVar[str] = "light"
    network: LightNetwork
    mice: tuple[str, ...]
    knowledge: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def neurons(self) -> tuple[int, ...]:
        """Neurons of each mouse."""
        return self.network.config.neurons

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the movie."""
        return self.network.config.height_px, self.network.config.width_px

    @property
    def shortest(self) -> int:
        """Frames that a response depends on."""
        return self.network.config.memory

    def to(self, device: str | torch.device) -> Self:
        """Move the network, in place."""
        self.network.to(device)
        return self

    def assemble(self, video: Tensor, behavior: Tensor, pupil_center: Tensor) -> Tensor:
        """Inputs (B, 5, T, 36, 64): the movie, and each behaviour over the whole plane."""
        movie = video.to(next(self.network.parameters()).device)[:, None]
        signals = torch.cat([behavior, pupil_center], 1).to(movie)
        return torch.cat([movie, signals[..., None, None].expand(-1, -1, -1, *movie.shape[3:])], 1)

    def respond(self, inputs: Tensor, mouse: int) -> Tensor:
        """Responses (B, N, T) to inputs (B, 5, T, 36, 64), differentiable.

        A clip of more than 300 frames is worked out in pieces; for a gradient, each is computed twice rather than kept.
        """
        video, length = inputs[:, 0], inputs.shape[2]
        history = self.network.history(inputs[:, 1:, :, 0, 0], mouse)
        before = self.shortest - 1
        parts = []
        for start in range(0, length, _PIECE):
            first, stop = max(0, start - before), min(length, start + _PIECE)
            piece = (video[:, first:stop], history[:, first:stop], mouse)
            if length > _PIECE and torch.is_grad_enabled():
                answer = recomputed(self._piece, *piece, use_reentrant=False)
            else:
                answer = self._piece(*piece)
            parts.append(answer[..., start - first :])
        return torch.cat(parts, 2)

    def predict(
        self,
        video: NDArray[np.float32],
        behavior: NDArray[np.float32],
        pupil_center: NDArray[np.float32],
        mouse: int = 0,
    ) -> NDArray[np.float32]:
        """Responses (N, T); see `decoders.reconstruction.encoder.Encoder.predict`."""
        return predict_clip(self, video, behavior, pupil_center, mouse)

    def checkpoint(self, provenance: Mapping[str, str]) -> Checkpoint:
        """Pack everything into one file's content."""
        config = self.network.config
        weights = {_NETWORK + name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        settings = {"network": asdict(config), "mice": list(self.mice)}
        arrays = {**weights, **self.knowledge}
        size = (config.height_px, config.width_px)
        return Checkpoint(LIGHT_KIND, *size, config.rate_hz, arrays, settings, provenance)

    def _piece(self, video: Tensor, history: Tensor, mouse: int) -> Tensor:
        readout = self.network.readout(mouse)
        answer: Tensor = readout(self.network.see(video), history)
        return answer * readout.response_std[:, None]


def load(checkpoint: Checkpoint, path: Path) -> LightEncoder:
    """Make the encoder of a checkpoint.

    Raises
    ------
    CheckpointError
        When the weights do not fit the sizes that the file states.
    """
    try:
        settings = dict(checkpoint.settings["network"])
        neurons = tuple(int(count) for count in settings.pop("neurons"))
        mice = tuple(str(name) for name in checkpoint.settings["mice"])
        network = LightNetwork(LightConfig(neurons=neurons, **settings))
        network.load_state_dict(_arrays(checkpoint, _NETWORK))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights do not fit the sizes it states: {reason}") from None
    knowledge = {name: array for name, array in checkpoint.arrays.items() if not name.startswith(_NETWORK)}
    return LightEncoder(network.eval().requires_grad_(False), mice, knowledge)


def _arrays(checkpoint: Checkpoint, prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in checkpoint.arrays.items()
        if name.startswith(prefix)
    }
