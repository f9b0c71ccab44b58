"""What all panels are made of: a framed box with a title, time plots and small pictures."""

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout

from gui.palette import MUTED, PANEL, TEXT

_AXIS_WIDTH_PX = 48  # the same for all plots, so that their time axes line up
_TIME_AXIS_PX = 38
_BARE_AXIS_PX = 8
_DIVISIONS = 4


class Panel(QFrame):
    """A framed box: a title line with figures at its right, and room for more below."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.box = QVBoxLayout(self)
        self.box.setContentsMargins(8, 4, 8, 4)
        self.box.setSpacing(2)
        self.figures = label("")
        self.figures.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.figures.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout()
        self.title = label(title, "title")
        row.addWidget(self.title)
        row.addWidget(self.figures, 1)
        self.box.addLayout(row)


def label(text: str, name: str = "") -> QLabel:
    """Make a line of text; `name` is what the style sheet calls it."""
    made = QLabel(text)
    made.setObjectName(name)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
    return made


def show_text(where: QLabel, text: str) -> None:
    """Set a label's text if it has changed: laying text out is what costs."""
    if where.text() != text:
        where.setText(text)


def time_plot(window_s: float, unit: str) -> pg.PlotWidget:
    """Make a plot over the seconds before now, without mouse actions: a slip cannot put it out of order."""
    plot = pg.PlotWidget(background=PANEL)
    plot.setMouseEnabled(False, False)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.setXRange(-window_s, 0.0, padding=0.0)
    plot.setLabel("left", unit)
    for axis in (plot.getAxis("left"), plot.getAxis("bottom")):
        axis.setPen(MUTED)
        axis.setTextPen(TEXT)
        axis.setStyle(tickLength=-4, maxTickLevel=0)
        axis.enableAutoSIPrefix(False)
    plot.getAxis("left").setWidth(_AXIS_WIDTH_PX)
    seconds = [0.0 - window_s * k / _DIVISIONS for k in range(_DIVISIONS + 1)]
    plot.getAxis("bottom").setTicks([[(s, f"{s:g}") for s in seconds]])
    plot.getAxis("bottom").setStyle(showValues=False)
    plot.getAxis("bottom").setHeight(_BARE_AXIS_PX)
    plot.getPlotItem().setContentsMargins(0, 6, 14, 0)  # room for the labels at the ends of the axes
    return plot


def label_time_axis(plot: pg.PlotWidget) -> None:
    """Name the time axis: done on the lowest of several plots."""
    plot.setLabel("bottom", "time before now (s)")
    plot.getAxis("bottom").setStyle(showValues=True, hideOverlappingLabels=False)
    plot.getAxis("bottom").setHeight(_TIME_AXIS_PX)


def picture_view() -> tuple[pg.GraphicsView, pg.ImageItem]:
    """Make a view of one picture: rows downwards, pixels square, no mouse actions."""
    view = pg.GraphicsView(background=PANEL)
    box = pg.ViewBox(lockAspect=True, invertY=True, enableMouse=False, enableMenu=False, defaultPadding=0.0)
    view.setCentralItem(box)
    picture = pg.ImageItem(axisOrder="row-major")
    box.addItem(picture)
    return view, picture
