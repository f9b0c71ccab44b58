"""The live window: `python -m gui.main_window SESSION.json [--screenshots DIR]`, started by the engine.

It assembles the panels that this rig has, and draws when the bridge rings. Closing it leaves the run going.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import pyqtgraph as pg
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from gui.bus_bridge import BusBridge
from gui.camera_panel import CameraPanel
from gui.control_panel import ControlPanel
from gui.decision_panel import DecisionPanel
from gui.lifeline import Lifeline
from gui.palette import ORANGE, PURPLE, SKY_BLUE, STYLE, VERMILION
from gui.panel import label_time_axis
from gui.reconstruction_panel import ReconstructionPanel
from gui.screenshots import Screenshots
from gui.status_panel import StateBanner, StatusPanel
from gui.trace_panel import TracePanel
from gui.view_model import ViewModel
from rig.description import SessionDescription
from rig.errors import ConfigError, CortexrigError
from rig.stimulus import load_movies

_LOG = logging.getLogger(__name__)
_SIZE = (1280, 800)
_SMALLEST = (1024, 720)
_BOTTOM_PX, _CONTROL_PX = 124, 256
_STACKED_CAMERAS = 2  # more go to tabs
_NOTICE_MS = 1500
_TRACE_COLOURS = (ORANGE, PURPLE, SKY_BLUE)
_STILL_RUNNING = "The run goes on without this window. Stop it with Ctrl-C in its terminal."


class MainWindow(QMainWindow):
    """All panels of one session."""

    def __init__(self, model: ViewModel, bridge: BusBridge) -> None:
        super().__init__()
        self.model, self._bridge = model, bridge
        self._closing = False
        self.setWindowTitle(f"cortexrig · {model.session.config.rig}")
        self.setStyleSheet(STYLE)
        self.setMinimumSize(*_SMALLEST)
        self.resize(*_SIZE)
        self.banner = StateBanner(model)
        self.cameras = [CameraPanel(model, view) for view in model.cameras.values()]
        self.traces = [
            TracePanel(model, view, _TRACE_COLOURS[k % len(_TRACE_COLOURS)])
            for k, (_, view) in enumerate(model.signals)
        ]
        self.decisions = [DecisionPanel(model, view) for view in model.decisions.values()]
        self.reconstructions = [
            ReconstructionPanel(model, name, match) for name, match in model.reconstructions.items()
        ]
        self.status = StatusPanel(model)
        self.control = ControlPanel(model, bridge.send)
        self.notice = QLabel("", self)
        self._draw = [
            self.banner.refresh,
            *(panel.refresh for panel in self.cameras),
            *(panel.refresh for panel in self.traces),
            *(panel.refresh for panel in self.decisions),
            *(panel.refresh for panel in self.reconstructions),
            self.status.refresh,
            self.control.refresh,
        ]
        self._assemble()
        bridge.arrived.connect(self.refresh)
        bridge.failed.connect(self._bus_failed)
        self.refresh()

    def refresh(self) -> None:
        """Take what the bridge has, and draw."""
        self.model.take(self._bridge.take(), time.monotonic())
        for draw in self._draw:
            draw()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 (Qt's name)
        """Say that the run goes on, without blocking, then close; a second request closes at once."""
        if self._closing or self.model.finished:
            event.accept()
            return
        _LOG.info("window closed; %s", _STILL_RUNNING)
        self._closing = True
        self._show_notice(_STILL_RUNNING)
        QTimer.singleShot(_NOTICE_MS, self, self.close)
        event.ignore()

    def _bus_failed(self, text: str) -> None:
        self._show_notice(f"The window has lost the bus: {text}")

    def _show_notice(self, text: str) -> None:
        self.notice.setText(text)
        self.notice.setStyleSheet(f"background: {VERMILION}; color: black; font-size: 12pt; padding: 12px;")
        self.notice.adjustSize()
        self.notice.move((self.width() - self.notice.width()) // 2, self.height() // 3)
        self.notice.show()
        self.notice.raise_()

    def _assemble(self) -> None:
        split = QSplitter(Qt.Orientation.Horizontal)
        if self.cameras:
            split.addWidget(self._camera_column())
        if self.traces or self.decisions or self.reconstructions:
            split.addWidget(self._signal_column())
        split.setSizes([_SIZE[0] // 3, 2 * _SIZE[0] // 3])
        bottom = QHBoxLayout()
        bottom.addWidget(self.status, 1)
        bottom.addWidget(self.control)
        self.status.setFixedHeight(_BOTTOM_PX)
        self.control.setFixedSize(_CONTROL_PX, _BOTTOM_PX)
        central = QWidget()
        central.setObjectName("central")
        rows = QVBoxLayout(central)
        rows.setContentsMargins(6, 6, 6, 6)
        rows.addWidget(self.banner)
        rows.addWidget(split, 1)
        rows.addLayout(bottom)
        self.setCentralWidget(central)
        self.notice.hide()

    def _camera_column(self) -> QWidget:
        if len(self.cameras) > _STACKED_CAMERAS:
            tabs = QTabWidget()
            for panel in self.cameras:
                tabs.addTab(panel, panel.title.text())
            return tabs
        return _column([(panel, 1) for panel in self.cameras])

    def _signal_column(self) -> QWidget:
        plots = [*(panel.plot for panel in self.traces), *(panel.plot for panel in self.decisions)]
        if plots:
            label_time_axis(plots[-1])
        panels: list[tuple[QWidget, int]] = [(panel, 3) for panel in self.traces]
        panels += [(panel, 5) for panel in self.decisions]
        return _column([*panels, *((panel, 6) for panel in self.reconstructions)])


def _column(panels: list[tuple[QWidget, int]]) -> QWidget:
    column = QWidget()
    rows = QVBoxLayout(column)
    rows.setContentsMargins(0, 0, 0, 0)
    for panel, stretch in panels:
        rows.addWidget(panel, stretch)
    return column


def make_model(session: SessionDescription) -> ViewModel:
    """Make the window's state; a movie that cannot be had costs the comparison, not the window."""
    movies = None
    if session.config.stimulus is not None:
        try:
            movies = load_movies(session.config.stimulus.movie)
        except ConfigError as error:
            _LOG.error("the stimulus is not shown: %s", error)
    return ViewModel(session, movies, time.monotonic())


def show_session(session: SessionDescription, screenshots: Path | None) -> int:
    """Show a session until the window is closed or told to end; return the exit code."""
    app = QApplication.instance() or QApplication([])
    pg.setConfigOptions(antialias=False)
    bridge = BusBridge(session)
    window = MainWindow(make_model(session), bridge)
    lifeline = Lifeline(window.model)  # kept: it lives as long as this function
    if screenshots is not None:
        screenshots.mkdir(parents=True, exist_ok=True)
        pictures = Screenshots(window, window.model, screenshots)
        bridge.arrived.connect(pictures.follow)
        app.aboutToQuit.connect(pictures.save_last)
    window.show()
    bridge.start()
    try:
        return app.exec()
    finally:
        bridge.close()
        lifeline.deleteLater()


def main(argv: list[str] | None = None) -> int:
    """Run the window's process; return its exit code."""
    parser = argparse.ArgumentParser(prog="gui.main_window", description="The live window of a session.")
    parser.add_argument("session", type=Path, help="the session's description, JSON")
    parser.add_argument("--screenshots", type=Path, help="save pictures to this folder, and leave at the end")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="window: %(message)s")
    try:
        session = SessionDescription.from_json(options.session.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, CortexrigError) as error:
        _LOG.error("%s: cannot be read as a session: %s", options.session, error)
        return 2
    return show_session(session, options.screenshots)


if __name__ == "__main__":
    sys.exit(main())
