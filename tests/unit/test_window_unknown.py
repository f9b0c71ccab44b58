"""What the window says when a decoder does not know, and how it shows what the decoder uses."""

from dataclasses import replace

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from gui.camera_panel import CameraPanel
from gui.decision_panel import DecisionPanel
from gui.reconstruction_panel import ReconstructionPanel
from gui.view_model import ViewModel
from rig.messages import ImportanceMap, PredictionStatus
from tests.unit.window_session import MS, S, describe, frame, prediction

pytestmark = pytest.mark.gui
PIXELS = np.full((64, 64), 1000, np.uint16)


def drops(at_ns: int, largest: float) -> ImportanceMap:
    values = np.zeros((32, 32), np.float32)
    values[8:16, 8:16] = largest
    return ImportanceMap("behavior.importance", 3, at_ns, 30.0, values)


def unknown(stream: str, shape: tuple[int, ...], at_ns: int, status: PredictionStatus):  # type: ignore[no-untyped-def]
    return replace(prediction(stream, -1, np.full(shape, np.nan), at_ns), source_index=-1, status=status)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (PredictionStatus.WARMING_UP, "unknown: warming up"),
        (PredictionStatus.FRAMES_MISSING, "unknown: frames missing"),
        (PredictionStatus.CAMERA_STALLED, "unknown: camera stalled"),
    ],
)
def test_the_reason_stands_where_the_value_stood(qtbot: QtBot, status: PredictionStatus, words: str) -> None:
    model = ViewModel(describe())
    behavior = DecisionPanel(model, model.decisions["behavior"])
    movie = ReconstructionPanel(model, "reconstruction", model.reconstructions["reconstruction"])
    for panel in (behavior, movie):
        qtbot.addWidget(panel)
    model.take([prediction("behavior", 0, 0.9, 0)], 0.0)
    behavior.refresh()
    assert "0.90" in behavior.figures.text()
    told = [unknown("behavior", (), 50 * MS, status), unknown("reconstruction", (36, 64), 50 * MS, status)]
    model.take(told, 0.1)
    behavior.refresh()
    movie.refresh()
    assert words in behavior.figures.text()
    assert "0.90" not in behavior.figures.text()
    assert words in movie.reconstructed_caption.text()


def test_the_map_lies_over_its_camera_and_can_be_switched_off(qtbot: QtBot) -> None:
    model = ViewModel(describe())
    panel, other = (CameraPanel(model, model.cameras[name]) for name in ("widefield", "two_photon"))
    qtbot.addWidget(panel)
    qtbot.addWidget(other)
    assert other.importance is None
    shown = panel.importance
    assert shown is not None
    model.take([frame("widefield", 1, PIXELS, 1 * S)], 0.0)
    panel.refresh()
    assert not shown.overlay.isVisible()
    model.take([drops(1 * S, 0.07)], 0.1)
    panel.refresh()
    assert shown.overlay.isVisible()
    assert shown.scale.text() == "0.1"
    assert shown.overlay.mapRectToParent(shown.overlay.boundingRect()) == panel.picture.boundingRect()
    assert shown.overlay.image[10, 10, 3] > 0
    assert shown.overlay.image[20, 20, 3] == 0
    shown.switch.click()
    panel.refresh()
    assert not shown.overlay.isVisible()
    model.take([drops(1 * S, 0.4)], 0.2)
    panel.refresh()
    shown.switch.click()
    panel.refresh()
    assert shown.overlay.isVisible()
    assert shown.scale.text() == "0.5"  # of the latest, though it came while switched off


def test_an_old_map_is_taken_away(qtbot: QtBot) -> None:
    model = ViewModel(describe())
    panel = CameraPanel(model, model.cameras["widefield"])
    qtbot.addWidget(panel)
    model.take([drops(1 * S, 0.2), frame("widefield", 1, PIXELS, 1 * S)], 0.0)
    panel.refresh()
    assert panel.importance is not None
    assert panel.importance.overlay.isVisible()
    model.take([frame("two_photon", 200, PIXELS, 6 * S)], 0.1)  # this camera or its decoder stands still
    panel.refresh()
    assert not panel.importance.overlay.isVisible()


def test_a_map_of_nobody_is_ignored() -> None:
    model = ViewModel(describe())
    model.take([replace(drops(0, 0.1), stream="nobody.importance")], 0.0)
    assert all(view.importance is None for view in model.cameras.values())
