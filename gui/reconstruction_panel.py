"""The movie frame shown beside the one read back from the neurons, in the same grey levels."""

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout

from gui.decision_panel import unknown_text
from gui.panel import Panel, label, picture_view, show_text
from gui.reconstruction_match import Picture, ReconstructionMatch
from gui.view_model import ViewModel

_BLACK_WHITE = (0.0, 255.0)  # as on the animal's screen, for both


class ReconstructionPanel(Panel):
    """Shows a `ReconstructionMatch`."""

    def __init__(self, model: ViewModel, name: str, match: ReconstructionMatch) -> None:
        super().__init__(name)
        self._match = match
        self._window_s = model.session.config.window.trace_s
        self._drawn_ns: int | None = None
        self._row = QHBoxLayout()
        self.shown, self.shown_caption = self._add_picture()
        self.reconstructed, self.reconstructed_caption = self._add_picture()
        self.box.addLayout(self._row, 1)

    def refresh(self) -> None:
        """Draw the latest pair."""
        pair = self._match.pair
        if pair.session_ns == self._drawn_ns:
            return
        self._drawn_ns = pair.session_ns
        _draw(self.shown, pair.shown)
        _draw(self.reconstructed, pair.reconstructed)
        no_stimulus = "stimulus unknown" if self._match.track is None else "nothing shown"
        show_text(self.shown_caption, "shown to the animal" if pair.shown is not None else no_stimulus)
        decoded = pair.reconstructed is not None
        caption = "read back from its neurons" if decoded else unknown_text(pair.status)
        show_text(self.reconstructed_caption, caption)
        show_text(self.figures, self._figures())

    def _add_picture(self) -> tuple[pg.ImageItem, QLabel]:
        view, picture = picture_view()
        view.setMinimumSize(100, 60)
        caption = label("", "muted")
        caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addWidget(view, 1)
        column.addWidget(caption)
        self._row.addLayout(column, 1)
        return picture, caption

    def _figures(self) -> str:
        correlation = self._match.correlation
        if not np.isfinite(correlation.value):
            return "video correlation -"
        extent = f"{self._window_s:.0f} s, {correlation.frames} frames"
        return f"video correlation {correlation.value:.2f} ({extent})"


def _draw(item: pg.ImageItem, picture: Picture | None) -> None:
    if picture is None:
        item.clear()
        return
    fresh = item.image is None
    item.setImage(picture, autoLevels=False, levels=_BLACK_WHITE)
    if fresh:
        item.getViewBox().autoRange(padding=0.0)
