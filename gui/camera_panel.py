"""One camera: its latest image, frame counter, rate, lost frames, contrast, and what of it a decoder uses."""

from PySide6.QtCore import QLocale
from PySide6.QtGui import QDoubleValidator
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLineEdit

from gui.importance_overlay import ImportanceOverlay
from gui.palette import MUTED, SEVERITY, coloured
from gui.panel import Panel, label, picture_view, show_text
from gui.run_status import Severity
from gui.view_model import CameraView, ViewModel

_LARGEST = 1e6


class CameraPanel(Panel):
    """Shows a `CameraView`."""

    def __init__(self, model: ViewModel, view: CameraView) -> None:
        super().__init__(view.stream.name)
        self._model, self._view = model, view
        self._drawn = 0
        widget, self.picture = picture_view()
        self._box = self.picture.getViewBox()
        widget.setMinimumSize(120, 100)
        self.box.addWidget(widget, 1)
        self.box.addLayout(self._contrast_row())
        self.importance = ImportanceOverlay(self.picture) if view.explained_by else None
        if self.importance is not None:
            self.box.addLayout(self.importance.row)

    def refresh(self) -> None:
        """Draw what is new."""
        view = self._view
        if view.image is not None and view.updates != self._drawn:
            self._drawn = view.updates
            self._draw(view)
        if self.importance is not None and view.image is not None:
            self.importance.show(view.importance_now(self._model.now_ns), view.image.shape)
        show_text(self.figures, _figures(view))

    def _draw(self, view: CameraView) -> None:
        fresh = self.picture.image is None
        self.picture.setImage(view.image, autoLevels=False, levels=view.contrast.levels)
        if fresh:
            self._box.autoRange(padding=0.0)
        if view.contrast.automatic:
            self._show_levels()

    def _contrast_row(self) -> QHBoxLayout:
        self.automatic = QCheckBox("auto contrast")
        self.automatic.setChecked(True)
        self.automatic.clicked.connect(self._choose)
        self.black, self.white = _level_box("black"), _level_box("white")
        row = QHBoxLayout()
        row.addWidget(self.automatic)
        row.addStretch(1)
        for text, box in (("black", self.black), ("white", self.white)):
            box.textEdited.connect(self._fix)
            row.addWidget(label(text, "muted"))
            row.addWidget(box)
        self._show_levels()
        return row

    def _choose(self, automatic: bool) -> None:
        if automatic:
            self._view.contrast.follow()
        else:
            self._fix()

    def _fix(self) -> None:
        """Take the levels as typed, which ends the automatic contrast; half-typed numbers wait."""
        if self.black.hasAcceptableInput() and self.white.hasAcceptableInput():
            self._view.contrast.fix(float(self.black.text()), float(self.white.text()))
            self.automatic.setChecked(False)
            self.picture.setLevels(self._view.contrast.levels)

    def _show_levels(self) -> None:
        for box, value in zip((self.black, self.white), self._view.contrast.levels, strict=True):
            if not box.hasFocus():  # a person may be typing
                box.setText(f"{value:.0f}")


def _figures(view: CameraView) -> str:
    good, bad = MUTED, SEVERITY[Severity.ERROR]
    lost = coloured(f"{view.lost} lost", bad if view.lost else good)
    rate = f"{view.rate_hz:.1f} Hz" if view.rate_hz == view.rate_hz else "- Hz"
    frame = f"frame {view.index}" if view.index >= 0 else "no frame yet"
    return f"{frame} &nbsp; {rate} &nbsp; {lost}"


def _level_box(name: str) -> QLineEdit:
    box = QLineEdit()
    validator = QDoubleValidator(-_LARGEST, _LARGEST, 3, box)
    validator.setLocale(QLocale.c())  # a decimal point in every country: float() reads it
    box.setValidator(validator)
    box.setFixedWidth(56)
    box.setToolTip(f"pixel value shown {name}; typing one ends the automatic contrast")
    return box
