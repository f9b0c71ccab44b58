"""What the training of every encoder shares: its options, how long it may take, how well it predicts."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decoders.datasets.movies import MovieMouse
from decoders.peers import ALONE, Peer
from decoders.reconstruction.averaging import MovingAverage
from decoders.reconstruction.encoder import Encoder
from decoders.reconstruction.encoder_clips import NOT_SCORED_FRAMES, MouseClips, Stretch, correlation
from decoders.training import TrainingConfig, train
from rig.errors import CheckpointError, DataError

_TIMED_STEPS = 3
_LAST_STEP = 0.88  # of the time given: the rest is for what is measured afterwards
_PLANNED = 0.9  # of the time until the last step: other programs may come to need the processor
_BESIDE = 1.2  # an epoch takes this much longer than its losses and gradients: the steps, the validation


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How an encoder is trained. `cache` keeps the state of a training that is broken off.

    With `minutes` the schedule is scaled to that time, and at its end no further step is made. `settings` replace
    numbers of the recipe. The published preset can be trained by several `processes`, each with so many threads and,
    with `device` "cuda", a GPU of its own; and be taught by `teachers`, files of encoders.
    """

    cache: Path
    seed: int = 0
    minutes: float | None = None
    device: str = "cpu"
    threads: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1
    teachers: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderReport:
    """How well an encoder predicts single trials of movies that it was not trained on.

    Correlations are means over neurons, first 50 frames of every trial dropped.
    """

    correlation: float
    per_mouse: Mapping[str, float]
    training_clips: int
    held_out_clips: int
    epochs: int
    seconds: float

    @classmethod
    def of(
        cls, scores: Mapping[str, float], clips: Sequence[MouseClips], epochs: int, deadline: "Deadline"
    ) -> "EncoderReport":
        """Sum up a training that has ended."""
        training, held_out = (
            sum(len(trials) for trials in part)
            for part in ([c.training for c in clips], [c.held_out for c in clips])
        )
        rounded = {name: round(score, 4) for name, score in scores.items()}
        return cls(round(mean(scores), 4), rounded, training, held_out, epochs, round(deadline.seconds, 1))


class Deadline:
    """The end of a training's time; it begins when it is made."""

    def __init__(self, minutes: float | None) -> None:
        self._start = time.monotonic()
        self._end = math.inf if minutes is None else self._start + 60 * _LAST_STEP * minutes

    @property
    def passed(self) -> bool:
        """Whether no further step may be begun."""
        return time.monotonic() > self._end

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._start

    def plan(self, most: int, loop: "Loop") -> "Plan":
        """As many steps as fit, in as few epochs as hold them; `most` epochs of the whole length without an end."""
        if math.isinf(self._end):
            return Plan(most, loop.steps)
        step_s = _BESIDE * _step_s(loop)
        steps = int(_PLANNED * (self._end - time.monotonic()) / step_s)
        epochs = max(1, min(most, math.ceil(steps / loop.steps)))
        return Plan(epochs, max(1, min(loop.steps, steps // epochs)))


@dataclass(frozen=True, slots=True)
class Plan:
    """How many epochs there are, and how many steps each has."""

    epochs: int
    steps: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A network, and the losses of an epoch: `losses(network, epoch)` yields `steps` of them."""

    network: nn.Module
    losses: Callable[[nn.Module, int], Iterator[Tensor]]
    steps: int


def run(
    loop: Loop,
    config: TrainingConfig,
    average: MovingAverage | None,
    state: Path,
    deadline: Deadline,
    peer: Peer = ALONE,
) -> int:
    """Train until the epochs or the time are over, and leave the averaged weights in the network; returns the epochs.

    Parameters
    ----------
    config
        With the most epochs there can be; fewer when the time left is not enough for them.
    average
        None in all processes but the first.
    state
        Path of the files, without an ending, from which a training that was broken off goes on.

    Raises
    ------
    CheckpointError
        When these files are unreadable.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    file, resume = state.with_suffix(".json"), state.with_suffix(".resume")
    if peer.leads and not file.exists():
        file.write_text(json.dumps(asdict(deadline.plan(config.epochs, loop))), encoding="utf-8")
    peer.meet()
    plan = _planned(file)

    def losses(epoch: int) -> Iterator[Tensor]:
        if epoch and peer.agree(deadline.passed):
            return
        for loss in islice(loop.losses(loop.network, epoch), plan.steps):
            yield loss
            if average:
                average.update(loop.network)  # the next loss is asked for, so the step is made
            if peer.agree(deadline.passed):
                return

    train(loop.network, losses, plan.steps, replace(config, epochs=plan.epochs), resume, average, peer)
    if peer.leads:
        file.unlink()
    return plan.epochs


def _planned(file: Path) -> Plan:
    """What a training was planned to be when it was begun."""
    try:
        return Plan(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be resumed from; delete it to start anew") from error


def _step_s(loop: Loop) -> float:
    """Seconds that a step takes, tried on a copy of the network."""
    ends = [time.monotonic()]
    for loss in islice(loop.losses(copy.deepcopy(loop.network), 0), _TIMED_STEPS + 1):
        loss.backward()  # type: ignore[no-untyped-call]
        ends.append(time.monotonic())
    return float(np.median(np.diff(ends)[1:])) if len(ends) > 2 else ends[-1] - ends[0]


def digest(mice: Sequence[MovieMouse], recipe: str, options: EncoderOptions) -> str:
    """Name of a training's state: the same data, recipe and seed, the same name."""
    data = [f"{mouse.path.resolve()} {mouse.neurons} {len(mouse.trials)}" for mouse in mice]
    teachers = [str(path.resolve()) for path in options.teachers]
    text = " ".join([*data, recipe, str(options.seed), options.device, str(options.minutes), *teachers])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def finite(loss: Tensor, stretches: Sequence[Stretch]) -> Tensor:
    """The loss; raises `DataError` naming the trials when it is not a finite number."""
    if not torch.isfinite(loss):
        trials = ", ".join(f"{s.trial.mouse} {s.trial.name}" for s in stretches[:3])
        raise DataError(
            f"the loss became {float(loss.detach())} at trials {trials}; valid is a finite number:"
            " lower learning_rate, or look for responses out of range"
        )
    return loss


def mean(scores: Mapping[str, float]) -> float:
    """Mean over mice."""
    return float(np.mean(list(scores.values())))


def held_out_correlation(encoder: Encoder, mice: Sequence[MouseClips]) -> dict[str, float]:
    """Mean over neurons of the single-trial correlation on held-out clips, by mouse."""
    found = {}
    for mouse, clips in enumerate(mice):
        predicted, recorded = held_out_predictions(encoder, mouse, clips)
        found[clips.mouse.name] = float(correlation(predicted, recorded).mean())
    return found


def held_out_predictions(
    encoder: Encoder, mouse: int, clips: MouseClips
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predicted and recorded responses of a mouse to its held-out clips, one after the other, (N, frames) each."""
    pairs = []
    for stretch in clips.whole(clips.held_out):
        video, signals = np.moveaxis(stretch.video.numpy(), 0, -1), stretch.signals.numpy()
        pairs.append((encoder.predict(video, signals[:2], signals[2:], mouse), stretch.responses.numpy()))
    predicted, recorded = (
        np.concatenate([pair[k][:, NOT_SCORED_FRAMES:] for pair in pairs], axis=1) for k in (0, 1)
    )
    return predicted, recorded
