"""The real window, offscreen, fed by real messages over the real bus."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyqtgraph as pg
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from gui.bus_bridge import BusBridge
from gui.main_window import MainWindow, make_model
from gui.palette import ORANGE, PANEL, VERMILION
from gui.screenshots import Screenshots
from rig.acquisition.states import COMMANDS
from rig.bus import Bus, Publisher, Subscriber
from rig.config import load_config
from rig.description import SessionDescription
from rig.messages import Event, Frame, FrameStream, Message, Prediction
from tests.unit.window_session import (
    CAMERAS,
    MS,
    PREDICTIONS,
    describe,
    frame,
    prediction,
    rig_config,
    samples,
    status_event,
)

pytestmark = pytest.mark.gui
RAMP = np.tile(np.arange(64, dtype=np.uint16) * 100, (64, 1))  # dark left, bright right


class Rig:
    """The engine's side of the bus, as the window sees it."""

    def __init__(self, session: SessionDescription) -> None:
        self.session = session
        self._ports = ExitStack()
        self._bus = self._ports.enter_context(Bus(session.identifier))
        self._publishers: dict[str, Publisher] = {}
        self._commands: Subscriber = self._bus.subscriber(COMMANDS, 16)
        self._ports.callback(self._commands.close)

    def publish(self, *messages: Message) -> None:
        for message in messages:
            if message.stream not in self._publishers:
                publisher = self._bus.publisher(message.stream, 1 << 16)
                self._ports.callback(publisher.close)
                self._publishers[message.stream] = publisher
            self._publishers[message.stream].send(message)

    def heard(self) -> Event | None:
        message = self._commands.receive()
        assert message is None or isinstance(message, Event)
        return message

    def close(self) -> None:
        self._ports.close()


class Opened:
    """A window with its bridge and the engine's side."""

    def __init__(self, qtbot: QtBot, session: SessionDescription) -> None:
        self.rig = Rig(session)
        self.bridge = BusBridge(session)
        self.window = MainWindow(make_model(session), self.bridge)
        self._qtbot = qtbot
        qtbot.addWidget(self.window)
        self.window.show()
        self.bridge.start()

    def until(self, condition: Callable[[], bool], *messages: Message) -> None:
        """Publish, again and again as the engine does, until the window shows it."""

        def reached() -> bool:
            self.rig.publish(*messages)
            return condition()

        self._qtbot.waitUntil(reached, timeout=10_000)

    def command(self, *messages: Message) -> Event:
        """Publish until the window says something, and return it."""
        heard: list[Event] = []

        def said() -> bool:
            command = self.rig.heard()
            heard.extend([command] if command else [])
            return bool(heard)

        self.until(said, *messages)
        return heard[0]

    def close(self) -> None:
        self.bridge.close()
        self.rig.close()


@pytest.fixture
def open_window(qtbot: QtBot) -> Iterator[Callable[..., Opened]]:
    before = set(threading.enumerate())
    windows: list[Opened] = []

    def opened(**parts: object) -> Opened:
        windows.append(Opened(qtbot, describe(f"test-{uuid.uuid4().hex[:8]}", **parts)))
        return windows[-1]

    yield opened
    for window in windows:
        window.close()
    assert set(threading.enumerate()) == before


def grabbed(widget: QWidget) -> np.ndarray:
    """Pixels of a widget as drawn, (H, W, 3)."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def share_of(widget: QWidget, colour: str) -> float:
    """Share of a widget's pixels that have a colour, within rounding."""
    wanted = np.array(QColor(colour).getRgb()[:3])
    return float(np.mean(np.abs(grabbed(widget).astype(int) - wanted).max(axis=2) <= 2))


def test_camera_shows_its_frame(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    panel = opened.window.cameras[0]
    opened.until(lambda: "frame 7" in panel.figures.text(), frame("widefield", 7, RAMP), status_event())
    pixels = grabbed(panel.picture.getViewWidget())
    middle = pixels[pixels.shape[0] // 2, :, 0].astype(int)
    inside = np.flatnonzero(np.abs(np.diff(middle)) > 0)
    ramp = middle[inside[0] + 2 : inside[-1] - 2]
    assert len(ramp) > 100
    assert (np.diff(ramp) >= 0).all()  # dark left, bright right: neither transposed nor mirrored
    assert ramp[0] < 30
    assert ramp[-1] > 225


def test_picture_is_not_upside_down(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    panel = opened.window.cameras[0]
    opened.until(lambda: panel.picture.image is not None, frame("widefield", 0, RAMP.T.copy()))
    column = grabbed(panel.picture.getViewWidget())
    column = column[:, column.shape[1] // 2, 0].astype(int)
    assert column[3 * len(column) // 4] > column[len(column) // 4] + 50


def test_lost_frames_stay_in_sight(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    panel = opened.window.cameras[0]
    opened.until(lambda: "0 lost" in panel.figures.text(), status_event())
    opened.until(lambda: "3 lost" in panel.figures.text(), status_event(lost=3))
    assert VERMILION in panel.figures.text()
    assert "widefield: 3 lost" in opened.window.banner.alerts.text()


def test_contrast_by_hand_and_back(qtbot: QtBot, open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    panel = opened.window.cameras[0]
    opened.until(lambda: panel.picture.image is not None, frame("widefield", 0, RAMP))
    panel.white.clear()
    qtbot.keyClicks(panel.white, "9000")
    assert not panel.automatic.isChecked()
    assert panel.picture.levels[1] == 9000.0
    opened.until(lambda: panel.picture.image[0, 0] == 5, frame("widefield", 1, RAMP + 5))
    assert panel.picture.levels[1] == 9000.0
    panel.automatic.click()
    panel.white.clearFocus()
    opened.until(lambda: panel.picture.levels[1] < 7000, frame("widefield", 2, RAMP))


def test_large_frames_arrive_binned(open_window: Callable[..., Opened]) -> None:
    big = FrameStream("widefield", 1024, 768, "uint16", 30.0, 0.0)
    opened = open_window(frames=(big,), predictions=(), config=rig_config(largest_px=256))
    panel = opened.window.cameras[0]
    opened.until(
        lambda: panel.picture.image is not None, frame("widefield", 0, np.full((1024, 768), 7, np.uint16))
    )
    assert panel.picture.image.shape == (256, 192)


def test_traces_and_decision_are_drawn(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    speed, decision = opened.window.traces[0], opened.window.decisions[0]
    empty = share_of(speed.plot, ORANGE)
    times = [k * 10 * MS for k in range(1000)]
    opened.until(
        lambda: speed.curve.xData is not None and len(speed.curve.xData) > 100,
        samples("treadmill", times, [(0.0, 60.0 * (k > 500)) for k in range(1000)]),
    )
    answers = [prediction("behavior", k, 0.25 + 0.5 * (k > 15), k * 330 * MS) for k in range(30)]
    opened.until(lambda: "0.75" in decision.figures.text(), *answers)
    opened.until(lambda: "laser off (4)" in decision.figures.text(), status_event())
    assert share_of(speed.plot, ORANGE) > empty + 0.002
    assert speed.figures.text() == "60 mm/s"
    assert "agreement" in decision.figures.text()
    assert decision.truth.yData.max() == 1.0


def test_axes_have_units_and_line_up(open_window: Callable[..., Opened]) -> None:
    window = open_window().window
    plots = [*(p.plot for p in window.traces), *(p.plot for p in window.decisions)]
    assert [p.getAxis("left").labelText for p in plots] == ["mm/s", "mm", "P(running)"]
    assert plots[-1].getAxis("bottom").labelText == "time before now (s)"
    assert len({p.getAxis("left").width() for p in plots}) == 1
    assert all(p.viewRange()[0] == [-20.0, 0.0] for p in plots)


def test_movie_beside_its_reconstruction(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    panel = opened.window.reconstructions[0]
    movie = make_model(opened.rig.session).stimulus
    assert movie is not None
    shown_at = [k * 33 * MS for k in range(30)]
    screen = samples("stimulus", shown_at, [(0.0, float(k)) for k in range(30)])
    movie.take(screen)
    true = movie.at(400 * MS)
    opened.until(
        lambda: panel.shown.image is not None, screen, prediction("reconstruction", 0, true, 500 * MS)
    )
    assert np.array_equal(panel.shown.image, panel.reconstructed.image)
    assert list(panel.shown.levels) == list(panel.reconstructed.levels) == [0.0, 255.0]
    assert "video correlation 1.00" in panel.figures.text()
    assert panel.shown_caption.text() == "shown to the animal"


def test_status_shows_every_figure(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    opened.until(lambda: "running" in opened.window.banner.state.text(), status_event())
    texts = {label.text() for label in opened.window.status.findChildren(type(opened.window.notice))}
    assert {"361", "30.0", "0.03 ms", "3.1 / 6.0 ms", "80.2 GB", "7 h", "0.1 MB"} <= texts
    assert opened.window.banner.elapsed.text() == "0:00:12"
    assert opened.window.banner.file.text() == "mouse.nwb"


def test_engine_silent_is_said(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    opened.until(lambda: "running" in opened.window.banner.state.text(), status_event())
    opened.until(lambda: "engine silent for" in opened.window.banner.state.text())
    assert ORANGE in opened.window.banner.state.text()
    assert not opened.window.control.stop.isEnabled()


def test_start_is_sent_once(qtbot: QtBot, open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    control = opened.window.control
    assert not control.start.isEnabled()
    opened.until(control.start.isEnabled, status_event("idle"))
    qtbot.mouseClick(control.start, Qt.MouseButton.LeftButton)
    assert opened.command(status_event("idle")).kind == "start"
    assert not control.start.isEnabled()


def test_short_press_does_not_stop_a_long_one_does(qtbot: QtBot, open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    stop = opened.window.control.stop
    opened.until(stop.isEnabled, status_event())
    held: list[bool] = []
    stop.held.connect(lambda: held.append(True))
    qtbot.mousePress(stop, Qt.MouseButton.LeftButton)
    opened.until(lambda: stop.progress > 0.2, status_event())
    plain = grabbed(stop)
    opened.until(lambda: stop.progress > 0.5, status_event())
    assert (grabbed(stop) != plain).any()  # the progress is seen
    qtbot.mouseRelease(stop, Qt.MouseButton.LeftButton)
    assert stop.progress == 0.0
    assert not held
    assert opened.rig.heard() is None
    qtbot.mousePress(stop, Qt.MouseButton.LeftButton)
    opened.until(lambda: bool(held), status_event())
    qtbot.mouseRelease(stop, Qt.MouseButton.LeftButton)
    assert opened.command(status_event()).kind == "stop"
    assert stop.text() == "stop requested"


def test_leaving_the_button_lets_go(qtbot: QtBot, open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    stop = opened.window.control.stop
    opened.until(stop.isEnabled, status_event())
    qtbot.mousePress(stop, Qt.MouseButton.LeftButton)
    qtbot.mouseMove(stop, QPoint(-200, -200))
    qtbot.mouseRelease(stop, Qt.MouseButton.LeftButton, pos=QPoint(-200, -200))
    assert stop.progress == 0.0


def test_note_is_sent_and_confirmed(qtbot: QtBot, open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    control = opened.window.control
    opened.until(control.note.isEnabled, status_event())
    qtbot.keyClicks(control.note, "  animal asleep? ")
    qtbot.keyClick(control.note, Qt.Key.Key_Return)
    qtbot.keyClick(control.note, Qt.Key.Key_Return)  # an empty one is no note
    note = opened.command(status_event())
    assert (note.kind, note.text) == ("note", "animal asleep?")
    assert control.note.text() == ""
    assert "animal asleep?" in control.confirmation.text()
    assert opened.rig.heard() is None


def test_closing_says_that_the_run_goes_on(
    qtbot: QtBot, open_window: Callable[..., Opened], caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_window()
    opened.until(lambda: "running" in opened.window.banner.state.text(), status_event())
    with caplog.at_level(logging.INFO):
        opened.window.close()
    assert opened.window.isVisible()
    assert opened.window.notice.isVisible()
    assert "The run goes on without this window" in opened.window.notice.text()
    assert "The run goes on without this window" in caplog.text
    qtbot.waitUntil(lambda: not opened.window.isVisible(), timeout=10_000)
    assert opened.rig.heard() is None


def test_after_the_run_the_window_closes_at_once(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    finished = status_event("finished", finish_reason="completed")
    opened.until(lambda: "finished: completed" in opened.window.banner.state.text(), finished)
    assert opened.window.isVisible()
    opened.window.close()
    assert not opened.window.isVisible()


def test_window_that_loses_the_bus_says_so(open_window: Callable[..., Opened]) -> None:
    opened = open_window()
    opened.bridge.failed.emit("shared memory is gone")
    assert opened.window.notice.isVisible()
    assert "shared memory is gone" in opened.window.notice.text()


@pytest.mark.parametrize("size", [(1280, 800), (1024, 720)])
def test_nothing_is_clipped(open_window: Callable[..., Opened], size: tuple[int, int]) -> None:
    opened = open_window()
    window = opened.window
    window.resize(*size)
    opened.until(lambda: "running" in window.banner.state.text(), status_event(lost=2))
    assert (window.width(), window.height()) == size
    central = window.centralWidget()
    assert central is not None
    outer = central.rect()
    panels = [*window.cameras, *window.traces, *window.decisions, *window.reconstructions]
    for panel in (window.banner, *panels, window.status, window.control):
        corner = panel.mapTo(central, QPoint(0, 0))
        assert outer.contains(panel.rect().translated(corner))
        assert panel.height() >= panel.minimumSizeHint().height()
    for panel in panels:
        assert panel.figures.width() >= panel.figures.sizeHint().width()


def test_rig_with_less_has_fewer_panels(open_window: Callable[..., Opened]) -> None:
    config = rig_config().model_copy(update={"running": None, "stimulus": None, "closed_loop": []})
    opened = open_window(config=config, frames=CAMERAS[:1], samples=(), predictions=())
    window = opened.window
    assert (len(window.cameras), window.traces, window.decisions, window.reconstructions) == (1, [], [], [])
    opened.until(lambda: window.cameras[0].picture.image is not None, frame("widefield", 0, RAMP))


def test_many_cameras_go_to_tabs(open_window: Callable[..., Opened]) -> None:
    many = tuple(FrameStream(f"camera_{k}", 64, 64, "uint16", 30.0, 0.0) for k in range(4))
    opened = open_window(frames=many, predictions=())
    assert opened.window.cameras[0].isVisible()
    assert not opened.window.cameras[3].isVisible()
    opened.until(lambda: opened.window.cameras[3].picture.image is not None, frame("camera_3", 0, RAMP))


def test_slow_window_gets_the_latest_frame_only(qtbot: QtBot) -> None:
    session = describe(f"test-{uuid.uuid4().hex[:8]}", predictions=PREDICTIONS)
    rig, bridge = Rig(session), BusBridge(session)
    rung: list[bool] = []
    bridge.arrived.connect(lambda: rung.append(True))
    bridge.start()
    try:
        qtbot.waitUntil(lambda: bool(rung), timeout=10_000)
        for k in range(50):
            rig.publish(frame("widefield", k, RAMP), prediction("behavior", k, 0.5, k))
            time.sleep(0.005)  # several of the bridge's turns, with nobody emptying the mailbox
    finally:
        bridge.close()  # its last turn collects what is left
        rig.close()
    QApplication.processEvents()
    received = bridge.take()
    assert [m.index for m in received if isinstance(m, Prediction)] == list(range(50))
    assert [m.index for m in received if isinstance(m, Frame)] == [49]
    assert len(rung) == 1  # rung once until emptied


def test_windows_leave_nothing_behind(qtbot: QtBot) -> None:
    before, widgets = set(threading.enumerate()), set(QApplication.topLevelWidgets())
    for _ in range(3):
        session = describe(f"test-{uuid.uuid4().hex[:8]}")
        bridge = BusBridge(session)
        window = MainWindow(make_model(session), bridge)
        window.show()
        bridge.start()
        qtbot.wait(50)
        bridge.close()
        window.close()
        window.close()
        window.deleteLater()
    del window, bridge
    qtbot.waitUntil(lambda: set(QApplication.topLevelWidgets()) <= widgets, timeout=10_000)
    assert set(threading.enumerate()) == before


def test_screenshots_are_taken_and_the_program_leaves(
    qtbot: QtBot, open_window: Callable[..., Opened], tmp_path: Path
) -> None:
    opened = open_window()
    pictures = Screenshots(opened.window, opened.window.model, tmp_path)
    opened.bridge.arrived.connect(pictures.follow)
    opened.until((tmp_path / "window-10s.png").exists, status_event())
    finished = status_event("finished", finish_reason="completed", elapsed_s=13.0)
    opened.until(lambda: "finished" in opened.window.banner.state.text(), finished)
    pictures.save_last()
    image = QImage(str(tmp_path / "window.png"))
    assert (image.width(), image.height()) == (1280, 800)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["window-10s.png", "window.png"]


def soak(qtbot: QtBot, updates: int) -> None:
    plot = pg.PlotWidget(background=PANEL)
    qtbot.addWidget(plot)
    curve = plot.plot()
    plot.show()
    x = np.arange(600.0)
    for k in range(updates):
        curve.setData(x, np.sin(x / 20 + k))
        QApplication.processEvents()
    assert curve.yData[0] == np.sin(updates - 1)


def test_thousand_updates(qtbot: QtBot) -> None:
    soak(qtbot, 1000)


@pytest.mark.slow
def test_soak(qtbot: QtBot) -> None:
    """PySide6 6.12 with pyqtgraph 0.14 aborts the process after some thousand updates."""
    soak(qtbot, 6000)


# --- the process ----------------------------------------------------------------------------------------


@pytest.fixture
def session_file(tmp_path: Path) -> SessionDescription:
    config = Path(__file__).parents[2] / "hardware_configs" / "simulated_mouse.yaml"
    session = describe(f"test-{uuid.uuid4().hex[:8]}", config=load_config(config))
    (tmp_path / "session.json").write_text(session.as_json(), encoding="utf-8")
    return session


def start_process(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gui.main_window", str(folder / "session.json"), *options]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def publish_until_pictured(rig: Rig, shots: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60.0
    while not list(shots.glob("*s.png")):
        rig.publish(frame("widefield", 0, RAMP), status_event())
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def test_process_saves_pictures_and_leaves_at_the_end(
    session_file: SessionDescription, tmp_path: Path
) -> None:
    rig, shots = Rig(session_file), tmp_path / "shots"
    process = start_process(tmp_path, "--screenshots", str(shots))
    try:
        publish_until_pictured(rig, shots, process)
        rig.publish(status_event("finished", finish_reason="completed", elapsed_s=13.0))
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        rig.close()
    assert process.returncode == 0, errors
    assert sorted(p.name for p in shots.iterdir()) == ["window-10s.png", "window.png"]
    assert "Traceback" not in errors


def test_process_ends_when_asked(session_file: SessionDescription, tmp_path: Path) -> None:
    rig, shots = Rig(session_file), tmp_path / "shots"
    process = start_process(tmp_path, "--screenshots", str(shots))
    try:
        publish_until_pictured(rig, shots, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        rig.close()
    assert process.returncode == 0, errors
    assert (shots / "window.png").exists()
    assert "Traceback" not in errors


def test_process_ends_with_its_engine(session_file: SessionDescription, tmp_path: Path) -> None:
    rig, shots = Rig(session_file), tmp_path / "shots"
    window = [sys.executable, "-m", "gui.main_window", str(tmp_path / "session.json")]
    window += ["--screenshots", str(shots)]
    code = f"import subprocess, sys; subprocess.Popen({window}); sys.stdin.read()"
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    pipe, command = subprocess.PIPE, [sys.executable, "-c", code]
    engine = subprocess.Popen(command, env=environment, stdin=pipe, stderr=pipe, text=True)
    try:
        publish_until_pictured(rig, shots, engine)
        engine.kill()
        _, errors = engine.communicate(timeout=60)  # until the window, too, has let go of stderr
    finally:
        engine.kill()
        rig.close()
    assert "the engine is gone" in errors
    assert (shots / "window.png").exists()


def test_process_refuses_what_is_no_session(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text("{}", encoding="utf-8")
    process = start_process(tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "session.json: cannot be read as a session" in errors
    assert "Traceback" not in errors
