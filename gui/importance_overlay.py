"""What a decoder uses of a camera's image, drawn over it, with its switch and legend."""

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel

from gui.overlay import colours, full_scale, legend
from gui.panel import label, show_text
from rig.messages import ImportanceMap

_LEGEND_PX = (72, 10)
_EXPLANATION = """The image is decoded again in spare moments with one square after the other blanked.
Colour: how much the probability of what the decoder says (run or rest) drops without that place,
mean over the last {seconds:.0f} s. No colour: no drop."""


class ImportanceOverlay:
    """Draws `ImportanceMap` over a camera's picture; `row` goes below it."""

    def __init__(self, picture: pg.ImageItem) -> None:
        self.overlay = pg.ImageItem(axisOrder="row-major")
        self.overlay.setZValue(1)
        picture.getViewBox().addItem(self.overlay)
        self.switch = QCheckBox("what the decoder uses")
        self.switch.setChecked(True)
        self.switch.clicked.connect(self._switched)
        self.scale = label("", "muted")
        self.strip = QLabel()
        self.strip.setPixmap(_legend_picture())
        self.row = QHBoxLayout()
        self.row.addWidget(self.switch)
        self.row.addStretch(1)
        for widget in (label("drop in probability: 0", "muted"), self.strip, self.scale):
            self.row.addWidget(widget)
        self._shown: ImportanceMap | None = None

    def show(self, known: ImportanceMap | None, shape: tuple[int, ...]) -> None:
        """Draw a map over an image of this shape (H, W); None takes the old one away."""
        visible = known is not None and self.switch.isChecked()
        self.overlay.setVisible(visible)
        if known is None:
            show_text(self.scale, "…")
        elif visible and known is not self._shown:
            self._draw(known, shape)
        self._shown = known if visible else None

    def _draw(self, known: ImportanceMap, shape: tuple[int, ...]) -> None:
        scale = full_scale(known.values)
        self.overlay.setImage(colours(known.values, scale), autoLevels=False)
        self.overlay.setRect(QRectF(0, 0, shape[1], shape[0]))
        show_text(self.scale, f"{scale:g}")
        if not self.switch.toolTip():
            self.switch.setToolTip(_EXPLANATION.format(seconds=known.seconds))

    def _switched(self, on: bool) -> None:
        self.overlay.setVisible(on)


def _legend_picture() -> QPixmap:
    picture = np.ascontiguousarray(legend(*_LEGEND_PX))
    height, width = picture.shape[:2]
    return QPixmap.fromImage(QImage(picture.data, width, height, QImage.Format.Format_RGBA8888).copy())
