"""One signal over the last seconds: running speed, pupil diameter."""

import pyqtgraph as pg

from gui.panel import Panel, show_text, time_plot
from gui.traces import steady_range
from gui.view_model import SignalView, ViewModel


class TracePanel(Panel):
    """Shows a `SignalView`."""

    def __init__(self, model: ViewModel, view: SignalView, colour: str) -> None:
        super().__init__(view.title)
        self._model, self._view = model, view
        self._range: tuple[float, float] | None = None
        self.plot = time_plot(model.session.config.window.trace_s, view.unit)
        self.plot.getAxis("left").setTicks([])  # no figures where there are no data
        self.curve = self.plot.plot(pen=pg.mkPen(colour, width=1), connect="finite")
        self.box.addWidget(self.plot, 1)

    def refresh(self) -> None:
        """Draw the trace as it is now."""
        seconds, values = self._view.trace.curve(self._model.now_ns)
        known = values[values == values]
        if len(known):
            self._fit(float(known.min()), float(known.max()))
            self.curve.setData(seconds, values)
        latest = self._view.trace.latest
        figure = f"{latest:z.{self._view.decimals}f} {self._view.unit}"  # z: no minus sign before nought
        show_text(self.figures, figure if latest == latest else "no data")

    def _fit(self, low: float, high: float) -> None:
        wanted = steady_range(low, high, self._range, self._view.least_span)
        if wanted != self._range:
            self._range = wanted
            self.plot.getAxis("left").setTicks(None)
            self.plot.setYRange(*wanted, padding=0.0)
