"""Training of the causal run/rest decoder: recordings to a checkpoint."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from decoders.behavior.evaluate import Score, best_threshold, score
from decoders.behavior.live import KIND
from decoders.behavior.model import BehaviorNetwork, NetworkConfig, Step, step_inputs
from decoders.checkpoint import Checkpoint
from decoders.normalise import NormaliserConfig, RunningNormaliser, bin_area
from decoders.runtime import export_onnx
from decoders.training import TrainingConfig, fix_seeds, train
from rig.errors import DataError

INPUT_PX = 64  # frames are binned towards this edge: 0.17 mm on the cortex, finer than its areas
_MEAN_S, _STD_S = 60.0, 60.0  # several bouts, so that a long run does not become the mean
_CHUNK_S = 20.0  # the hidden state is carried so far, then starts anew
_SEGMENT_S = 2.0  # the gradient goes back so far
_BATCH = 12
_SHIFT_PX = 3  # optics are never mounted twice in the same place
_WARM_UP_S = 3.0  # not scored, as live


@dataclass(frozen=True, slots=True)
class Recording:
    """One animal's normalised frames, half precision to save memory, and its labels."""

    name: str
    rate_hz: float
    frames: NDArray[np.float16]  # (T, H, W)
    running: NDArray[np.bool_]  # (T,)

    @property
    def brightness(self) -> NDArray[np.float32]:
        """Mean of every normalised frame, (T,)."""
        brightness: NDArray[np.float32] = self.frames.mean(axis=(1, 2), dtype=np.float32)
        return brightness


def input_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Size that the network sees: the camera's, divided by the whole number that brings it nearest above 64 pixels.

    Raises
    ------
    DataError
        When that number does not divide the camera's frames.
    """
    factor = max(1, min(height_px, width_px) // INPUT_PX)
    if height_px % factor or width_px % factor:
        size = f"{height_px}x{width_px}"
        raise DataError(f"frames of {size} pixels cannot be binned by {factor}; valid are multiples of it")
    return height_px // factor, width_px // factor


def prepare(
    name: str, frames: Iterable[NDArray[np.generic]], running: NDArray[np.bool_], rate_hz: float
) -> Recording:
    """Bin and normalise a recording's frames (H, W), in order, by the live code."""
    normaliser: RunningNormaliser | None = None
    normalised = []
    for frame in frames:
        size = input_size(*frame.shape)
        normaliser = normaliser or RunningNormaliser(*size, NormaliserConfig(_MEAN_S, _STD_S, rate_hz))
        normalised.append(normaliser.step(bin_area(frame, *size)).astype(np.float16))
    if not normalised or len(normalised) != len(running) or len(running) < _CHUNK_S * rate_hz:
        raise DataError(
            f"{name}: {len(normalised)} frames; valid is {_CHUNK_S:g} s or more, every one labelled"
        )
    return Recording(name, rate_hz, np.stack(normalised), running)


def fit(
    recordings: Sequence[Recording], config: TrainingConfig, resume: Path | None = None
) -> tuple[BehaviorNetwork, list[float]]:
    """Train a network on recordings of one rate and size; return it with the mean loss of every epoch."""
    sizes = {(recording.frames.shape[1:], recording.rate_hz) for recording in recordings}
    if len(sizes) != 1:
        raise DataError(f"recordings differ in size or rate: {sorted(map(str, sizes))}; valid is one of each")
    fix_seeds(config)
    height, width = recordings[0].frames.shape[1:]
    network = BehaviorNetwork(NetworkConfig(height, width))
    chunks = sum(_chunks(recording) for recording in recordings)
    segments = round(_CHUNK_S / _SEGMENT_S)
    steps = -(-chunks // _BATCH) * segments

    def losses(epoch: int) -> Iterator[Tensor]:
        rng = np.random.default_rng((config.seed, epoch))
        for frames, running in _batches(recordings, rng):
            hidden = network.start(len(frames))
            for part, label in zip(frames.chunk(segments, 1), running.chunk(segments, 1), strict=True):
                logits, hidden = network(part, hidden.detach())
                yield F.binary_cross_entropy_with_logits(logits, label)

    history = train(network, losses, steps, config, resume)
    return network.eval(), history


def decode(network: BehaviorNetwork, recording: Recording) -> NDArray[np.float32]:
    """Probability of running at every frame of a recording, (T,), by the sequence form of the network."""
    hidden, answers = network.start(1), []
    with torch.no_grad():
        for part in torch.split(torch.from_numpy(recording.frames), 256):
            logits, hidden = network(part.float().unsqueeze(0), hidden)
            answers.append(torch.sigmoid(logits[0]))
    probability: NDArray[np.float32] = torch.cat(answers).numpy()
    return probability


def evaluate(
    network: BehaviorNetwork, trained_on: Sequence[Recording], held_out: Sequence[Recording]
) -> dict[str, Score]:
    """Score recordings of animals that were not trained on, after the warm-up."""
    threshold = best_threshold(
        np.concatenate([recording.brightness for recording in trained_on]),
        np.concatenate([recording.running for recording in trained_on]),
    )
    scores = {}
    for recording in held_out:
        start = round(_WARM_UP_S * recording.rate_hz)
        probability, brightness = decode(network, recording), recording.brightness
        running = recording.running[start:]
        scores[recording.name] = score(probability[start:], brightness[start:], threshold, running)
    return scores


def make_checkpoint(network: BehaviorNetwork, recording: Recording, provenance: dict[str, str]) -> Checkpoint:
    """Pack a trained network; `recording` is one of those it was trained on."""
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    graph = export_onnx(Step(network), step_inputs(network.config))
    return Checkpoint(
        kind=KIND,
        height_px=recording.frames.shape[1],
        width_px=recording.frames.shape[2],
        rate_hz=recording.rate_hz,
        arrays={**weights, "onnx": np.frombuffer(graph, np.uint8)},
        settings={
            "network": asdict(network.config),
            "normaliser": asdict(NormaliserConfig(_MEAN_S, _STD_S, recording.rate_hz)),
        },
        provenance=provenance,
    )


def _chunks(recording: Recording) -> int:
    return int(len(recording.frames) / (_CHUNK_S * recording.rate_hz))


def _batches(recordings: Sequence[Recording], rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks in random order, each with its own small shift and mirrored or not: (B, T, H, W) and labels (B, T)."""
    starts = []
    for recording in recordings:
        length, count = round(_CHUNK_S * recording.rate_hz), _chunks(recording)
        first = int(rng.integers(len(recording.frames) - count * length + 1))
        starts += [(recording, first + k * length, length) for k in range(count)]
    order = rng.permutation(len(starts))
    for batch in np.array_split(order, -(-len(order) // _BATCH)):
        chunks = [starts[k] for k in batch]
        frames = [_augment(recording.frames[at : at + length], rng) for recording, at, length in chunks]
        running = [recording.running[at : at + length] for recording, at, length in chunks]
        yield torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(running).astype(np.float32))


def _augment(frames: NDArray[np.float16], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift by some pixels (zeros come in: the mean) and mirror left and right half of the time."""
    down, right = rng.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2)
    padded = np.pad(frames.astype(np.float32), ((0, 0), (_SHIFT_PX, _SHIFT_PX), (_SHIFT_PX, _SHIFT_PX)))
    rows, columns = _SHIFT_PX + down, _SHIFT_PX + right
    shifted = padded[:, rows : rows + frames.shape[1], columns : columns + frames.shape[2]]
    return shifted[:, :, ::-1].copy() if rng.random() < 0.5 else shifted
