"""DwiseNeuro as an encoder of whole clips: published checkpoints, sliding windows, the mean where they overlap."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from decoders.reconstruction.dwiseneuro import DwiseNeuro, DwiseNeuroConfig
from decoders.reconstruction.encoder import HEIGHT_PX, WIDTH_PX, predict_clip
from rig.errors import CheckpointError

_WINDOWS = (
    4  # at once; 1.5 GB each at the published size when a gradient is asked for (computed), and no slower
)


@dataclass(frozen=True, slots=True)
class DwiseNeuroEncoder:
    """A network and its windows: `size` frames, every `step`-th of the clip; see `decoders.reconstruction.Encoder`.

    Every start position of the window is run, and a frame's response is the mean over the windows that hold it.
    `padding` is the grey level around the movie. `windows_at_once` bounds the memory: when a gradient is asked for
    and there are more windows than that, they are computed twice rather than kept, unless `kept`.
    """

    kind: ClassVar[str] = "dwiseneuro"
    network: DwiseNeuro
    size: int = 16
    step: int = 2
    input_size: tuple[int, int] = (64, 64)
    padding: float = 0.0
    mice: tuple[str, ...] = ()
    windows_at_once: int = _WINDOWS
    kept: bool = False

    @property
    def neurons(self) -> tuple[int, ...]:
        """Neurons of each mouse."""
        return self.network.config.readout_outputs

    @property
    def shortest(self) -> int:
        """Frames that one window spans."""
        return (self.size - 1) * self.step + 1

    def to(self, device: str | torch.device) -> Self:
        """Move the network, in place."""
        self.network.to(device)
        return self

    def assemble(self, video: Tensor, behavior: Tensor, pupil_center: Tensor) -> Tensor:
        """Inputs (B, 5, T, h, w): the movie in the middle of the padding, each behaviour over the whole plane."""
        return self.planes(video.to(next(self.network.parameters()).device), behavior, pupil_center)

    def planes(self, video: Tensor, behavior: Tensor, pupil_center: Tensor) -> Tensor:
        """Inputs as `assemble` makes them, on the device of the video."""
        (height, width), (rows, columns) = self.input_size, video.shape[-2:]
        top, left = (height - rows) // 2, (width - columns) // 2
        margins = (left, width - columns - left, top, height - rows - top)
        movie = F.pad(video, margins, value=self.padding)[:, None]
        scalars = torch.cat([behavior, pupil_center], dim=1).to(movie)
        return torch.cat([movie, scalars[..., None, None].expand(-1, -1, -1, height, width)], dim=1)

    def respond(self, inputs: Tensor, mouse: int) -> Tensor:
        """Responses (B, N, T) to inputs (B, 5, T, h, w), differentiable."""
        frames = inputs.permute(0, 2, 3, 4, 1)  # (B, T, h, w, 5)
        batch, length = frames.shape[:2]
        starts = torch.arange(length - self.shortest + 1, device=inputs.device)
        sampled = starts[:, None] + torch.arange(0, self.shortest, self.step, device=inputs.device)
        parts = torch.split(sampled, max(1, self.windows_at_once // batch))
        repeated = torch.is_grad_enabled() and inputs.requires_grad and len(parts) > 1 and not self.kept
        total = inputs.new_zeros(batch, length, self.neurons[mouse])
        for part in parts:
            windows = frames[:, part].flatten(0, 1)  # (B windows, size, h, w, 5)
            if repeated:
                answer = checkpoint(self.network.respond, windows, mouse, use_reentrant=False)
            else:
                answer = self.network.respond(windows, mouse)
            answer = torch.unflatten(answer.to(total), 0, (batch, -1)).flatten(1, 2)
            total = total.index_add(1, part.flatten(), answer)
        count = torch.bincount(sampled.flatten(), minlength=length).to(total)
        return (total / count[:, None]).transpose(1, 2)

    def predict(
        self,
        video: NDArray[np.float32],
        behavior: NDArray[np.float32],
        pupil_center: NDArray[np.float32],
        mouse: int = 0,
    ) -> NDArray[np.float32]:
        """Responses (N, T); see `decoders.reconstruction.encoder.Encoder.predict`."""
        return predict_clip(self, video, behavior, pupil_center, mouse)


def load(path: Path) -> DwiseNeuroEncoder:
    """Read a checkpoint in the published layout, executing nothing in it.

    A dictionary of `model_name`, `params` (the architecture in `nn_module`, the windows in `frame_stack`, the
    padding in `inputs_processor`), `nn_state_dict`, and where we wrote it the names of the `mice`.

    Raises
    ------
    CheckpointError
        When the file is damaged, holds anything but tensors and plain values, or its weights do not fit.
    """
    content = _read(path)
    try:
        params = content["params"]
        name, settings = params["nn_module"]
        stack = params["frame_stack"]
        size, step = int(stack["size"]), int(stack["step"])
        if size < 1 or step < 1:
            raise ValueError(f"frame_stack has size {size} and step {step}; valid are 1 or more")
        input_size, padding = _planes(params.get("inputs_processor", ("stack_inputs", {})))
        _check_processing(name, params)
        network = _network(DwiseNeuroConfig.of(settings), content["nn_state_dict"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a checkpoint of DwiseNeuro: {reason}") from None
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its architecture: {_first(error)}") from None
    mice = tuple(str(mouse) for mouse in content.get("mice", [""] * len(network.readouts)))
    return DwiseNeuroEncoder(network, size, step, input_size, padding, mice)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, on files of the old layout
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no base class for what a broken file raises
        raise CheckpointError(
            f"{path}: damaged, or not a checkpoint of tensors and plain values; nothing else is loaded"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}; valid is a dictionary with 'params'"
        )
    return content


def _planes(processor: tuple[str, Mapping[str, Any]]) -> tuple[tuple[int, int], float]:
    """Size and grey level of the padded planes."""
    name, settings = processor
    width, height = (int(size) for size in settings.get("size", (64, 64)))  # published order; both are 64
    if name != "stack_inputs" or height < HEIGHT_PX or width < WIDTH_PX:
        raise ValueError(
            f"inputs_processor {name!r} of {height} x {width}; valid is 'stack_inputs' of"
            f" {HEIGHT_PX} x {WIDTH_PX} or more"
        )
    return (height, width), float(settings.get("pad_fill_value", 0.0))


def _check_processing(name: str, params: Mapping[str, Any]) -> None:
    if name != "dwiseneuro":
        raise ValueError(f"nn_module is {name!r}; valid is 'dwiseneuro'")
    responses = params.get("responses_processor", ("identity", {}))[0]
    if responses != "identity":
        raise ValueError(f"responses_processor is {responses!r}; valid is 'identity'")


def _network(config: DwiseNeuroConfig, weights: Mapping[str, Tensor]) -> DwiseNeuro:
    with torch.device("meta"):  # no second copy of 170 million weights, and no random numbers
        network = DwiseNeuro(config)
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()},
        assign=True,
    )
    return network.eval().requires_grad_(False)


def _first(error: RuntimeError) -> str:
    """The first thing that torch complains about, of what can be hundreds of lines."""
    lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return lines[0][:200] + more
