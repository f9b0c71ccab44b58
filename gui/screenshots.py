"""Pictures of the window, for runs that nobody watches."""

import logging
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication, QWidget

from gui.view_model import ViewModel

_LOG = logging.getLogger(__name__)
_EVERY_S = 10


class Screenshots(QObject):
    """Saves the window every ten seconds of the run, and as it was at the end; belongs to the window."""

    def __init__(self, window: QWidget, model: ViewModel, folder: Path) -> None:
        super().__init__(window)  # Qt then knows when it is gone: signals to the dead crash
        self._window, self._model, self._folder = window, model, folder
        self._next_s = _EVERY_S

    def follow(self) -> None:
        """Save a picture if it is time; quit the program once the run has finished."""
        status = self._model.status
        if status is not None and status.elapsed_s >= self._next_s:
            self._save(f"window-{self._next_s}s.png")
            self._next_s = (int(status.elapsed_s) // _EVERY_S + 1) * _EVERY_S
        if self._model.finished:
            QApplication.exit()

    def save_last(self) -> None:
        """Save the window as it is now, as the last picture."""
        self._save("window.png")

    def _save(self, name: str) -> None:
        path = self._folder / name
        if not self._window.grab().save(str(path)):
            _LOG.error("%s: the screenshot cannot be written", path)
