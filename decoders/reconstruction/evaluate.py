"""Scores of reconstructed movies: the published figures, simple baselines, ablations, stimuli in silico, departures."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.datasets.movie_trials import Trial
from decoders.reconstruction.ablations import Variant
from decoders.reconstruction.departures import Departure
from decoders.reconstruction.encoder import predict_mean
from decoders.reconstruction.inversion import invert
from decoders.reconstruction.linear_movies import LinearMovies, TrainingTier, fit_linear
from decoders.reconstruction.reconstructor import Reconstructor
from decoders.reconstruction.scored_clips import ScoredClip, ScoredMouse
from decoders.reconstruction.similarity import (
    DROPPED_FRAMES,
    bootstrap,
    compare,
    mean_of_mice,
    pearson,
    response_fit,
    smooth,
)
from decoders.reconstruction.stimuli import SCORED_FROM, Grid, Surface
from decoders.result_folder import read_json, write_json
from rig.errors import DataError

Movie = NDArray[np.float32]
Advance = Callable[[int], None]
NOISE_FREE = Variant("noise-free responses", responses="predicted")


@dataclass(frozen=True, slots=True)
class ClipScore:
    """Figures of one presentation: of the reconstruction, of models beside it, and of its ablations."""

    mouse: str
    name: str
    figures: Mapping[str, float]
    baselines: Mapping[str, float]
    ablations: Mapping[str, float]
    seconds: float
    departure: Mapping[str, Any] | None


@dataclass(slots=True)
class Evaluation:
    """What scores clips one after the other; what a mouse's training tier says is worked out once.

    `maps` is the folder for maps of departures, None for none.
    """

    make: Reconstructor
    variants: Sequence[Variant]
    smoothing: float
    maps: Path | None
    baselines: dict[tuple[str, str], LinearMovies] = field(default_factory=dict)
    tiers: dict[tuple[str, str], TrainingTier | None] = field(default_factory=dict)

    def score(self, clip: ScoredClip, other: ScoredClip | None, advance: Advance) -> ClipScore:
        """Reconstruct and score a presentation; `other` shows another movie to the same mouse.

        Raises
        ------
        DataError
            When the clip or a mouse's training tier cannot be used; it names the trial.
        """
        trial = clip.load()
        shown = frames_first(trial.video)
        main, *ablated = self._variants(clip, trial, advance)
        found = main[0].movie
        scored = clip.of.scored
        similar = compare(shown, smooth(found, self.smoothing), scored)
        figures = asdict(similar) | {"correlation_unsmoothed": compare(shown, found, scored).correlation}
        ablations = {
            variant.name: self._correlation(shown, [one.movie for one in movies], scored)
            for variant, movies in zip(self.variants[1:], ablated, strict=True)
        }
        return ClipScore(
            mouse=clip.of.mouse.name,
            name=clip.name,
            figures=figures | self._fits(clip, trial, found),
            baselines=self._beside(clip, trial, found, other),
            ablations=ablations,
            seconds=main[0].seconds,
            departure=self._departure(clip, trial, found),
        )

    def surface(self, grid: Grid, clip: ScoredClip, count: int, advance: Advance) -> Surface:
        """Reconstruct `count` stimuli of every cell from the encoders' own answers for a clip's mouse, and score them.

        Cells are kept as they are finished. Behaviour is the mean of the training tier at every frame.

        Raises
        ------
        DataError
            Without a training tier, or when a kept cell is damaged.
        """
        of, tier = clip.of, self._needed_tier(clip)
        folder = self.make.folder / "stimuli" / f"{grid.kind}-{count}-blur-{self.smoothing:g}"
        found = np.full((len(grid.space), len(grid.time)), np.nan)
        for cell in grid.cells():
            kept = folder / f"{cell[0]}-{cell[1]}.json"
            if not kept.exists():
                values = [self._recovered(movie, of, tier) for movie in grid.stimuli(cell, count)]
                folder.mkdir(parents=True, exist_ok=True)
                write_json({"correlations": values}, kept)
            found[cell] = np.mean(read_json(kept)["correlations"])
            advance(1)
        return Surface(grid, count, of.mouse.name, found)

    def tier(self, clip: ScoredClip) -> TrainingTier | None:
        """What the training tier of the clip's mouse says; None where there is none."""
        trained = clip.trained_without
        if trained not in self.tiers:
            sources = clip.training()
            tier = TrainingTier.of(source.load() for source in sources) if sources else None
            self.tiers[trained] = tier
        return self.tiers[trained]

    def movies(self, clip: ScoredClip) -> dict[str, Movie]:
        """The movie of a scored clip, and what was made of it, by what they are: all smoothed but the movie."""
        trial = clip.load()
        shown = frames_first(trial.video)
        found = {"movie": shown, "reconstruction": self.make(clip, trial, Variant())[0].movie}
        linear = self._read_linearly(clip, trial)
        if linear is not None:
            found["linear"] = linear
        return {
            name: movie if movie is shown else smooth(movie, self.smoothing) for name, movie in found.items()
        }

    def _needed_tier(self, clip: ScoredClip) -> TrainingTier:
        tier = self.tier(clip)
        if tier is None:
            raise DataError(f"{clip.of.mouse.path}: no training trial whose mean behaviour could be used")
        return tier

    def _read_linearly(self, clip: ScoredClip, trial: Trial) -> Movie | None:
        """The linear baseline's movie; None with fewer than two training movies."""
        sources, trained = clip.training(), clip.trained_without
        if len({source.clip for source in sources}) < 2:
            return None

        def fitted() -> Movie:
            if trained not in self.baselines:
                self.baselines[trained] = fit_linear(sources)
            return self.baselines[trained](trial.responses)

        return self.make.kept("linear", clip, trial, fitted).movie

    def _variants(self, clip: ScoredClip, trial: Trial, advance: Advance) -> list[list[Any]]:
        made = []
        for variant in self.variants:
            tier = self._needed_tier(clip) if variant.behavior == "mean" else None
            made.append(self.make(clip, trial, variant, tier))
            advance(1)
        return made

    def _correlation(self, shown: Movie, movies: list[Movie], scored: NDArray[np.bool_] | None) -> float:
        every = [compare(shown, smooth(movie, self.smoothing), scored).correlation for movie in movies]
        return float(np.mean(every))

    def _fits(self, clip: ScoredClip, trial: Trial, found: Movie) -> dict[str, float]:
        """How well the encoders explain the recorded responses from the movie, and from its reconstruction."""
        known = (trial.behavior, trial.pupil_center, clip.of.index)
        from_true = predict_mean(self.make.encoders, trial.video, *known)
        from_found = predict_mean(self.make.encoders, np.moveaxis(found, 0, -1), *known)
        return {
            "fit_from_true": response_fit(trial.responses, from_true),
            "fit_from_reconstruction": response_fit(trial.responses, from_found),
        }

    def _beside(
        self, clip: ScoredClip, trial: Trial, found: Movie, other: ScoredClip | None
    ) -> dict[str, float]:
        """Correlations of what needs no encoder, and of our reconstruction with another movie."""
        shown, scored = frames_first(trial.video), clip.of.scored
        beside: dict[str, float] = {}
        read, tier = self._read_linearly(clip, trial), self.tier(clip)
        if read is not None:
            beside["linear"] = compare(shown, smooth(read, self.smoothing), scored).correlation
        if tier is not None:
            mean = np.broadcast_to(tier.mean_frame, shown.shape)
            beside["mean_frame"] = compare(shown, mean, scored).correlation
        if other is not None:
            wrong = frames_first(other.load().video)
            frames = min(len(wrong), len(shown))
            movie = smooth(found, self.smoothing)
            beside["mismatched"] = compare(wrong[:frames], movie[:frames], scored).correlation
        return beside

    def _departure(self, clip: ScoredClip, trial: Trial, found: Movie) -> Mapping[str, Any] | None:
        if self.maps is None:
            return None
        alone = [one.movie for one in self.make.by_model(clip, trial)] if len(self.make.encoders) > 1 else []
        free = self.make(clip, trial, NOISE_FREE)[0].movie
        shown = frames_first(trial.video)
        departure = Departure.of(shown, found, alone, free, clip.of.scored, self.smoothing)
        departure.save(self.maps / f"{clip.name.replace('/', '-')}.npz")
        return departure.summary()

    def _recovered(self, movie: Movie, of: ScoredMouse, tier: TrainingTier) -> float:
        """Correlation of a stimulus with its reconstruction, from frame 30 on."""
        behavior, pupil = (np.tile(v[:, None], (1, len(movie))) for v in (tier.behavior, tier.pupil_center))
        answers = predict_mean(self.make.encoders, np.moveaxis(movie, 0, -1), behavior, pupil, of.index)
        found = invert(
            self.make.encoders,
            answers,
            behavior,
            pupil,
            mouse=of.index,
            mask=of.mask,
            recipe=self.make.recipe,
            preview=self.make.preview,
            iterations=self.make.iterations,
            progress=False,
            motion=False,
        )
        scored = slice(None) if of.scored is None else of.scored
        return pearson(movie[SCORED_FROM:, scored], smooth(found, self.smoothing)[SCORED_FROM:, scored])


def others(clips: Sequence[ScoredClip]) -> list[ScoredClip | None]:
    """For each presentation the next one of the same mouse that shows another movie; None where all show one."""
    found: list[ScoredClip | None] = []
    for at, clip in enumerate(clips):
        around = [*clips[at + 1 :], *clips[:at]]
        different = (c for c in around if c.of is clip.of and c.trial.clip != clip.trial.clip)
        found.append(next(different, None))
    return found


def frames_first(video: Movie) -> Movie:
    """A video (36, 64, T) as a movie (T, 36, 64)."""
    return np.moveaxis(video, -1, 0)


def summary(scores: Sequence[ClipScore], variants: Sequence[Variant]) -> dict[str, Any]:
    """Every figure: mean over mice, 95 % interval over clips, and each mouse and clip; null where there is none."""
    figures = {name: _told(scores, "figures", name) for name in scores[0].figures}
    fits = {name: figures.pop(f"fit_{name}") for name in ("from_true", "from_reconstruction")}
    energy = {"shown": figures.pop("motion_energy_shown"), "reconstructed": figures.pop("motion_energy")}
    correlation = figures.pop("correlation")
    return {
        "correlation": correlation,
        **figures,
        "motion_energy": {name: told["mean"] for name, told in energy.items()},
        "response_fit": fits,
        "baselines": {name: _told(scores, "baselines", name) for name in _names(s.baselines for s in scores)},
        "ablations": {
            v.name: {
                **_told(scores, "ablations", v.name),
                "difference": _difference(scores, v.name),
                "published": v.published,
                "published_difference": _minus(v.published, Variant().published),
            }
            for v in variants[1:]
        },
        "published_correlation": Variant().published,
        "departures": {s.name: s.departure for s in scores if s.departure is not None},
        "seconds_per_clip": float(np.mean([s.seconds for s in scores])),
        "clips": len(scores),
        "dropped_frames": DROPPED_FRAMES,
    }


def _told(scores: Sequence[ClipScore], kind: str, name: str) -> dict[str, Any]:
    by_mouse: dict[str, dict[str, float]] = {}
    for score in scores:
        values = getattr(score, kind)
        if name in values:
            by_mouse.setdefault(score.mouse, {})[score.name] = values[name]
    mean, mice = mean_of_mice(by_mouse)
    interval = bootstrap(by_mouse)
    clips = {clip: _number(value) for values in by_mouse.values() for clip, value in values.items()}
    return {
        "mean": _number(mean),
        "interval": list(interval) if interval else None,
        "mice": {mouse: _number(value) for mouse, value in mice.items()},
        "clips": clips,
    }


def _difference(scores: Sequence[ClipScore], name: str) -> dict[str, Any]:
    """An ablation's correlation minus that of everything, clip by clip."""
    paired = [
        replace(score, ablations={name: score.ablations[name] - score.figures["correlation"]})
        for score in scores
    ]
    told = _told(paired, "ablations", name)
    return {"mean": told["mean"], "interval": told["interval"]}


def _names(of: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for values in of for name in values))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else round(value - other, 3)
