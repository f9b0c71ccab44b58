"""How much the animal runs, learnt while it does, without labels: what makes one mouse's bias harmless.

The outlier among the published mice (mouse 1 of Ajioka et al. 2024, doi 10.1371/journal.pcbi.1011074) runs 37 % of the
time where the others run 58 to 80 %; its frames are ranked well and only the threshold is shifted (best ones 0.08 to
0.52). A network trained on some share of running expects that share. Saerens, Latinne and Decaestecker 2002 (Neural
Computation 14:21, doi 10.1162/089976602753284446) correct it by expectation and maximisation; here one step a frame:
the share is the running mean of the corrected probabilities. Causal: an answer depends on its frame and earlier ones.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_SHARE = 0.1  # of running and of rest: an animal that does one thing for minutes may yet do the other


@dataclass(frozen=True, slots=True)
class AdaptationConfig:
    """What the network expects, and how fast the animal's own habits replace it.

    Attributes
    ----------
    run_share
        Share of running in the recordings that were trained on.
    temperature
        Logits are divided by it: a network is surer of animals it was trained on than of others.
    time_constant_s
        Of the running mean; long beside the bouts.
    rate_hz
        Frame rate.
    """

    run_share: float
    temperature: float
    time_constant_s: float
    rate_hz: float


class Adaptation:
    """Logits to probabilities of running, adapting to the animal while it does so; begins without an opinion."""

    def __init__(self, config: AdaptationConfig) -> None:
        self._expected = _log_odds(config.run_share)
        self._temperature = config.temperature
        self._forgetting = 1.0 - math.exp(-1.0 / (config.time_constant_s * config.rate_hz))
        self.run_share = 0.5
        """Share of time that the animal has been running of late, as far as one can tell."""

    def probability(self, logit: float) -> float:
        """Probability of running as things stand; changes nothing."""
        return logistic((logit - self._expected) / self._temperature + _log_odds(self.run_share))

    def step(self, logit: float) -> float:
        """Probability of running for the next frame; the share then follows it."""
        probability = self.probability(logit)
        share = self.run_share + self._forgetting * (probability - self.run_share)
        self.run_share = min(max(share, _LEAST_SHARE), 1.0 - _LEAST_SHARE)
        return probability

    def sequence(self, logits: Iterable[float]) -> NDArray[np.float32]:
        """Probabilities of successive frames, (T,)."""
        return np.array([self.step(float(logit)) for logit in logits], np.float32)


def logistic(logit: float) -> float:
    """Logistic function that cannot overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def _log_odds(share: float) -> float:
    return math.log(share / (1.0 - share))
