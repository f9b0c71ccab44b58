"""Reconstructions can take hours: one that was broken off goes on where it was."""

import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from decoders.reconstruction.problem import InversionOptions, InversionProblem
from rig.errors import DataError

_SAME = 1e-3  # of the largest response; another device or number of threads differs by less, another encoder by more


@dataclass(frozen=True, slots=True)
class InversionState:
    """The file of one unfinished reconstruction, of arrays alone; see `InversionOptions`.

    Its name holds a digest of clip and recipe, so reconstructions of several clips share a folder.
    """

    path: Path
    every: int

    @classmethod
    def of(cls, options: InversionOptions, name: str, problem: InversionProblem, recipe: str) -> Self | None:
        """Where `name`'s state is kept; None without a folder. Raises `DataError` when it cannot be made."""
        if options.folder is None:
            return None
        digest = hashlib.sha256(recipe.encode())
        begun = None if problem.prior is None else problem.prior.mean
        for array in (problem.responses, problem.behavior, problem.pupil_center, problem.mask, begun):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(str(problem.mouse).encode())
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{options.folder}: no folder to keep a reconstruction's state in: {error}"
            ) from error
        return cls(options.folder / f"{name}-{digest.hexdigest()[:12]}.npz", options.save_every)

    def keep(
        self, movie: Tensor, moment: Tensor, probe: NDArray[np.float32], iteration: int, total: int
    ) -> None:
        """Write the state when it is time to, and after the last iteration; whole or not at all."""
        if iteration % self.every and iteration != total:
            return
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        arrays = {"movie": movie.cpu().numpy(), "moment": moment.cpu().numpy(), "probe": probe}
        try:
            with partial.open("wb") as file:
                np.savez(file, allow_pickle=False, iteration=np.int64(iteration), **arrays)
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise DataError(f"{self.path}: cannot be written: {error}") from error

    def restore(self, movie: Tensor, moment: Tensor, probe: NDArray[np.float32]) -> int:
        """Put the kept state into `movie` and `moment`; return the iterations already made, 0 without a file.

        Raises
        ------
        DataError
            When the file is damaged, or of other encoders: `probe` is what they answer to noise.
        """
        if not self.path.exists():
            return 0
        kept = self._read(tuple(movie.shape), tuple(moment.shape), probe.shape)
        if np.abs(kept["probe"] - probe).max() > _SAME * np.abs(probe).max():
            raise DataError(f"{self.path}: a reconstruction by another encoder; delete it to start anew")
        movie.copy_(torch.from_numpy(kept["movie"]))
        moment.copy_(torch.from_numpy(kept["moment"]))
        return int(kept["iteration"])

    def remove(self) -> None:
        """Forget the state of a finished reconstruction."""
        self.path.unlink(missing_ok=True)

    def _read(
        self, movie: tuple[int, ...], moment: tuple[int, ...], probe: tuple[int, ...]
    ) -> dict[str, NDArray[np.float32]]:
        shapes = {"movie": movie, "moment": moment, "probe": probe, "iteration": ()}
        try:
            with self.path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
                kept = {name: archive[name] for name in shapes}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.path}: cannot be resumed from ({reason}); delete it to start anew"
            ) from error
        if any(kept[name].shape != shape for name, shape in shapes.items()):
            raise DataError(f"{self.path}: of another reconstruction; delete it to start anew")
        return kept
