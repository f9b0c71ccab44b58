"""One decoder's scalar against the truth, its thresholds, and the outputs it drives."""

import pyqtgraph as pg
from PySide6.QtCore import Qt

from gui.palette import GREEN, MUTED, ORANGE, SEVERITY, SKY_BLUE, YELLOW, coloured
from gui.panel import Panel, show_text, time_plot
from gui.run_status import OutputStatus, Severity
from gui.running_decision import truth_steps
from gui.traces import steady_range
from gui.view_model import DecisionView, ViewModel
from rig.messages import PredictionStatus

_TRUTH_ALPHA = 90
_EXPLANATION = """decoded value now, or why it is not known
agreement: share of the decoded values shown that lie on the same side of 0.5 as the truth
outputs, with the number of commands they were sent"""
_DASH = {"on": Qt.PenStyle.DashLine, "off": Qt.PenStyle.DotLine}


class DecisionPanel(Panel):
    """Shows a `DecisionView`: the truth as filled spans, the decoded value as a line."""

    def __init__(self, model: ViewModel, view: DecisionView) -> None:
        super().__init__(view.stream.name)
        self._model, self._view = model, view
        self.plot = time_plot(model.session.config.window.trace_s, _axis_label(view))
        self.truth = self.plot.plot(pen=None, fillLevel=0.0, brush=_fill())
        self.curve = self.plot.plot(pen=pg.mkPen(SKY_BLUE, width=2), connect="finite")
        self._add_thresholds()
        if view.is_probability:
            self.plot.setYRange(0.0, 1.0, padding=0.04)
            self.plot.getAxis("left").setTicks([[(0.0, "0"), (0.5, "0.5"), (1.0, "1")]])
            self.title.setText(f"{view.stream.name} &nbsp; {self._legend()}")
        self.box.addWidget(self.plot, 1)
        self.figures.setToolTip(_EXPLANATION)

    def refresh(self) -> None:
        """Draw truth, decision and figures as they are now."""
        decision = self._view.decision
        seconds, values = decision.trace.curve(self._model.now_ns)
        self.curve.setData(seconds, values)
        if decision.truth:
            self.truth.setData(*truth_steps(decision.truth.bouts, self._model.now_ns))
        elif len(known := values[values == values]):
            self.plot.setYRange(*steady_range(float(known.min()), float(known.max()), None), padding=0.0)
        show_text(self.figures, self._figures())

    def _add_thresholds(self) -> None:
        for name, level in self._view.thresholds:
            pen = pg.mkPen(ORANGE, width=1, style=_DASH[name])
            self.plot.addItem(pg.InfiniteLine(level, angle=0, pen=pen))

    def _legend(self) -> str:
        parts = [coloured("━ decoded", SKY_BLUE)]
        parts += [coloured("■ running", "#35c79c")] if self._view.decision.truth else []
        parts += [coloured("╌ thresholds", ORANGE)] if self._view.thresholds else []
        return f'<span style="font-weight: normal">{" &nbsp; ".join(parts)}</span>'

    def _figures(self) -> str:
        latest, agreement = self._view.decision.trace.latest, self._view.decision.agreement()
        parts = [f"{latest:.2f}" if latest == latest else unknown_text(self._view.decision.status)]
        if agreement == agreement:
            parts.append(f"agreement {100 * agreement:.0f} %")
        status = self._model.status
        outputs = status.outputs if status else {}
        parts += [_output(name, outputs[name]) for name in self._view.outputs if name in outputs]
        return " &nbsp; ".join(parts)


def unknown_text(status: int) -> str:
    """Why there is no answer; in a warning's colour when something is wrong."""
    words = PredictionStatus(status).words
    return words if status == PredictionStatus.WARMING_UP else coloured(words, SEVERITY[Severity.WARNING])


def _output(name: str, status: OutputStatus) -> str:
    """Say an output in a word, with its number of commands so far: short pulses fall between two looks."""
    if status.on:
        return coloured(f"{name} ON ({status.commands})", YELLOW)
    if status.safe:
        return coloured(f"{name} held off ({status.commands})", SEVERITY[Severity.WARNING])
    return coloured(f"{name} off ({status.commands})", MUTED)


def _axis_label(view: DecisionView) -> str:
    return "P(running)" if view.is_probability else view.stream.unit


def _fill() -> object:
    colour = pg.mkColor(GREEN)
    colour.setAlpha(_TRUTH_ALPHA)
    return pg.mkBrush(colour)
