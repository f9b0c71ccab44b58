"""Ends the window together with the engine that started it."""

import logging
import os
import signal

from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QApplication

from gui.view_model import ViewModel

_LOG = logging.getLogger(__name__)
_EVERY_MS = 500


class Lifeline(QObject):
    """Quits the program when it is asked to end, or when its parent is gone before the run has finished.

    Its timer also wakes Python now and then: a signal's handler runs only then.
    """

    def __init__(self, model: ViewModel) -> None:
        super().__init__()
        self._model = model
        self._parent = os.getppid()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(_EVERY_MS)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: QApplication.exit())

    def _look(self) -> None:
        if os.getppid() != self._parent and not self._model.finished:
            self._timer.stop()
            _LOG.error("the engine is gone; `rig recover` brings back what it had written")
            QApplication.exit()
