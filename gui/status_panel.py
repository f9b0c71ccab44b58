"""The state of the run at the top of the window, and every figure of it at the bottom."""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QWidget

from gui.palette import MUTED, SEVERITY, TEXT, coloured
from gui.panel import Panel, label, show_text
from gui.run_status import RunStatus, Severity, duration_text, minutes_text
from gui.view_model import ViewModel

Row = Sequence[str]
_MOST_ALERTS = 3


class StateBanner(QFrame):
    """State, elapsed time, what deserves attention, and the file."""

    def __init__(self, model: ViewModel) -> None:
        super().__init__()
        self.setObjectName("panel")
        self._model = model
        self.state, self.elapsed = label("", "state"), label("", "elapsed")
        self.alerts, self.file = label(""), label("", "muted")
        self.alerts.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 4, 10, 4)
        row.setSpacing(16)
        for widget, stretch in ((self.state, 0), (self.elapsed, 0), (self.alerts, 1), (self.file, 0)):
            row.addWidget(widget, stretch)

    def refresh(self) -> None:
        """Show the state as it is now."""
        head, status = self._model.headline, self._model.status
        show_text(self.state, coloured(f"● {head.text}", SEVERITY[head.severity]))
        show_text(self.elapsed, duration_text(status.elapsed_s if status else 0.0))
        lines = [coloured(alert.text, SEVERITY[alert.severity]) for alert in self._model.alerts]
        more = [coloured(f"and {len(lines) - _MOST_ALERTS} more", MUTED)] if len(lines) > _MOST_ALERTS else []
        show_text(self.alerts, " &nbsp;·&nbsp; ".join(lines[:_MOST_ALERTS] + more))
        self.alerts.setToolTip("\n".join(alert.text for alert in self._model.alerts))
        file = status.file if status else None
        show_text(self.file, Path(file).name if file else "not recorded")
        self.file.setToolTip(file or "")


class StatusPanel(Panel):
    """Tables of streams, decoders and the recorder."""

    def __init__(self, model: ViewModel) -> None:
        super().__init__("status")
        self._model = model
        self._streams, self._decoders, self._recorder = Table(), Table(), Table()
        row = QHBoxLayout()
        row.setSpacing(18)
        for table in (self._streams, self._decoders, self._recorder):
            row.addWidget(table, 0, Qt.AlignmentFlag.AlignTop)
        row.addStretch(1)
        inside = QWidget()
        inside.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        scroll = QScrollArea()
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        self.box.addWidget(scroll, 1)
        self.title.hide()
        self.figures.hide()

    def refresh(self) -> None:
        """Show the figures as last heard."""
        status = self._model.status
        if status is not None:
            self._streams.show_rows(_stream_rows(status))
            self._decoders.show_rows(_decoder_rows(status))
            self._recorder.show_rows(_recorder_rows(status))


class Table(QWidget):
    """Rows of text: the first row heads the columns, the first column names, figures stand to the right."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("table")
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(1)
        self._cells: dict[tuple[int, int], QLabel] = {}

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Show the rows; there may be more than before, never fewer."""
        for i, row in enumerate(rows):
            for j, text in enumerate(row):
                show_text(self._cell(i, j), text)

    def _cell(self, row: int, column: int) -> QLabel:
        if (row, column) not in self._cells:
            cell = label("", "" if row else "muted")
            cell.setAlignment(Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft)
            self._grid.addWidget(cell, row, column)
            self._cells[row, column] = cell
        return self._cells[row, column]


def _stream_rows(status: RunStatus) -> list[Row]:
    rows: list[Row] = [("stream", "Hz", "received", "lost", "clock residual")]
    for name, stream in status.streams.items():
        lost = coloured(str(stream.lost), SEVERITY[Severity.ERROR] if stream.lost else TEXT)
        residual = "-" if stream.clock_residual_ms is None else f"{stream.clock_residual_ms:.2f} ms"
        rows.append((name, f"{stream.rate_hz:.1f}", str(stream.received), lost, residual))
    return rows


def _decoder_rows(status: RunStatus) -> list[Row]:
    rows: list[Row] = [("decoder", "decisions", "skipped", "latency p50 / p99")] if status.decoders else []
    for name, d in status.decoders.items():
        latency = "-" if d.p50_ms is None or d.p99_ms is None else f"{d.p50_ms:.1f} / {d.p99_ms:.1f} ms"
        rows.append((name, str(d.decisions), str(d.skipped), latency))
    return rows


def _recorder_rows(status: RunStatus) -> list[Row]:
    recorder = status.recorder
    if recorder is None:
        return [("recorder", "off")]
    return [
        ("recorder", ""),
        ("queue", f"{recorder.queued_mb:.1f} MB"),
        ("queue peak", f"{recorder.high_water_mb:.1f} MB"),
        ("disk left", f"{recorder.disk_free_gb:.1f} GB"),
        ("full in", minutes_text(recorder.minutes_left)),
    ]
