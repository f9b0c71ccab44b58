"""Start, hold-to-stop, and the note box."""

import time
from collections.abc import Callable

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPushButton

from gui.palette import VERMILION
from gui.panel import Panel, label
from gui.run_status import duration_text
from gui.view_model import NOTE_CHARACTERS, HoldToConfirm, ViewModel
from rig.messages import Event

_PROGRESS_MS = 30
_MOST_SHOWN = 40


class HoldButton(QPushButton):
    """A button that acts when it was held for a second, and fills up meanwhile."""

    held = Signal()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._hold = HoldToConfirm()
        self._timer = QTimer(self)
        self._timer.setInterval(_PROGRESS_MS)
        self._timer.timeout.connect(self._advance)
        self.pressed.connect(self._begin)
        self.released.connect(self._end)

    @property
    def progress(self) -> float:
        """From 0 (not held) to 1 (held long enough)."""
        return self._hold.progress(time.monotonic())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw the button, and over it how far the hold has come."""
        super().paintEvent(event)
        if self.progress > 0:
            colour = QColor(VERMILION)
            colour.setAlpha(150)
            painter = QPainter(self)
            painter.fillRect(0, 0, round(self.width() * self.progress), self.height(), colour)
            painter.end()

    def _begin(self) -> None:
        self._hold.press(time.monotonic())
        self._timer.start()

    def _end(self) -> None:
        self._hold.release()
        self._timer.stop()
        self.update()

    def _advance(self) -> None:
        if self.progress >= 1.0:
            self._end()
            self.held.emit()
        self.update()


class ControlPanel(Panel):
    """The three things a person may tell the engine."""

    def __init__(self, model: ViewModel, send: Callable[[Event], None]) -> None:
        super().__init__("control")
        self._model, self._send = model, send
        self.start = QPushButton("Start")
        self.start.setObjectName("start")
        self.start.clicked.connect(lambda: self._ask("start"))
        self.stop = HoldButton("Hold to stop")
        self.stop.setToolTip("stops the run when held for one second")
        self.stop.held.connect(lambda: self._ask("stop"))
        self.note = QLineEdit()
        self.note.setMaxLength(NOTE_CHARACTERS)
        self.note.setPlaceholderText("note: Enter stamps and records it")
        self.note.returnPressed.connect(self._send_note)
        self.confirmation = label(" ", "muted")
        self.confirmation.setWordWrap(True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 1)
        buttons.addWidget(self.stop, 1)
        self.box.addLayout(buttons)
        self.box.addWidget(self.note)
        self.box.addWidget(self.confirmation)
        self.box.addStretch(1)
        self.title.hide()
        self.figures.hide()

    def refresh(self) -> None:
        """Enable what would be obeyed now."""
        model = self._model
        self.start.setEnabled(model.can_start)
        self.stop.setEnabled(model.can_stop)
        self.stop.setText("stop requested" if model.stop_asked and not model.finished else "Hold to stop")
        self.note.setEnabled(model.can_note)

    def _ask(self, kind: str) -> None:
        """Send a command, and disable its button at once: the next picture is too late for a double click."""
        self._send(self._model.command(kind))
        self.refresh()

    def _send_note(self) -> None:
        text = self.note.text().strip()
        if not text or not self._model.can_note:
            return
        command = self._model.command("note", text)
        self._send(command)
        self.note.clear()
        at = duration_text(command.arrival_ns / 1e9)
        shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
        self.confirmation.setText(f"noted at {at} of the session: {shown}")
