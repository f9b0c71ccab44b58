"""Training an epoch of run/rest decoders: features of shared images once, against every window by itself.

Windows of neighbouring frames share most of their images. Separately, each of n windows of w images sends its w images
through the CNN; as stretches of l windows, l + w - 1 images do for l windows. A step here is forward, loss, backward
and AdamW over the same number of windows on both sides, in turn, in one process. An epoch is scaled from the
step's median: as many steps as its windows need.

`published` is the CNN-GRU of Ajioka et al. 2024 (doi 10.1371/journal.pcbi.1011074): 128 x 128 pixels, 11 images a
window. `causal` is ours with a windowed memory of 1 s at 30 Hz, 32 x 32 pixels.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import arguments, tell
from decoders.behavior.cnn_gru import CnnGruNetwork
from decoders.behavior.efficientnet import EfficientNetB0
from decoders.behavior.model import BehaviorNetwork, NetworkConfig

_HALF = 5  # images either side, published
_CAUSAL_WINDOW = 30
_EPOCH_WINDOWS = 4 * 7200  # four training mice of 7,200 frames each

_AT_ONCE = 8  # separate windows: 32 of them, 352 images, take 14 GB; their gradients are added up

Step = Callable[[], Iterator[Tensor]]  # losses of a step over its windows, whose gradients are added up


def published(windows: int) -> tuple[nn.Module, Step, Step]:
    """Make the CNN-GRU with the loss of a stretch of windows, shared and one by one."""
    network = CnnGruNetwork(EfficientNetB0(), _HALF).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(1, windows + 2 * _HALF, 3, 128, 128)
    running = torch.randint(0, 2, (windows,)).float()
    separate = images[0].unfold(0, 2 * _HALF + 1, 1).movedim(-1, 1).contiguous()

    def loss(stretches: Tensor, labels: Tensor) -> Tensor:
        logits = network(stretches).flatten()
        return F.binary_cross_entropy_with_logits(logits, labels) * (len(labels) / windows)

    def separate_losses() -> Iterator[Tensor]:
        yield from map(loss, separate.split(_AT_ONCE), running.split(_AT_ONCE))

    return network.train(), lambda: iter([loss(images, running)]), separate_losses


def causal(windows: int) -> tuple[nn.Module, Step, Step]:
    """Make our windowed network with the loss of a clip, frames encoded once, and every window anew."""
    network = BehaviorNetwork(NetworkConfig(window=_CAUSAL_WINDOW))
    network.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    past = _CAUSAL_WINDOW - 1
    frames = torch.randn(1, past + windows, 32, 32)
    running = torch.randint(0, 2, (windows,)).float()
    separate = frames[0].unfold(0, _CAUSAL_WINDOW, 1).movedim(-1, 1).contiguous()

    def shared_loss() -> Iterator[Tensor]:
        logits, _ = network(frames, network.start(1))
        yield F.binary_cross_entropy_with_logits(logits[0, past:], running)

    def separate_loss() -> Iterator[Tensor]:
        features = network.encoder(separate.flatten(0, 1).unsqueeze(1)).unflatten(0, separate.shape[:2])
        states, _ = network.memory(features)
        yield F.binary_cross_entropy_with_logits(network.readout(states[:, -1]).flatten(), running)

    return network.train(), shared_loss, separate_loss


def seconds(optimiser: torch.optim.Optimizer, step: Step) -> tuple[float, float]:
    """One optimiser step: wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    optimiser.zero_grad()
    for loss in step():
        loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def compared(made: tuple[nn.Module, Step, Step], windows: int, pairs: int) -> dict[str, Any]:
    """Time both sides in turn; seconds an epoch and their ratios."""
    network, *sides = made
    optimiser = torch.optim.AdamW(network.parameters())
    seconds(optimiser, sides[0])  # the first step allocates
    times = [[seconds(optimiser, side) for side in sides] for _ in range(pairs)]
    steps = _EPOCH_WINDOWS / windows
    report: dict[str, Any] = {"windows_a_step": windows, "pairs": pairs}
    for kind, clock in enumerate(("wall", "cpu")):
        shared, separate = ([pair[side][kind] for pair in times] for side in (0, 1))
        report[clock] = {
            "shared_s_an_epoch": round(statistics.median(shared) * steps, 1),
            "separate_s_an_epoch": round(statistics.median(separate) * steps, 1),
            "ratio_of_medians": round(statistics.median(separate) / statistics.median(shared), 2),
            "ratio_of_each_pair": [round(b / a, 2) for a, b in zip(shared, separate, strict=True)],
        }
    return report


def main() -> None:
    """Time both models."""
    asked = arguments(__doc__, windows=32, pairs=3, threads=2)
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads)
    clip = 4 * 30  # the segment that the gradient goes back over
    tell(
        asked,
        {
            "data": f"random images; an epoch is {_EPOCH_WINDOWS} windows; forward, backward and AdamW",
            "threads": asked.threads,
            "versions": {"torch": torch.__version__},
            "published": compared(published(asked.windows), asked.windows, asked.pairs),
            "causal": compared(causal(clip), clip, max(asked.pairs, 10)),
        },
    )


if __name__ == "__main__":
    main()
