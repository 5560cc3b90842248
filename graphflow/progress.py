"""A line in the terminal that shows how far a training run is.

    epoch 1/5  ██████████████░░░░░░░░░░  58%  loss 0.3127   98,000 images/s   0:00:01 left

In a terminal the line is redrawn at most ten times a second; elsewhere (a pipe, a log file) plain lines are written:
one when an epoch ends and one every ten seconds before that. Nothing is written to a stream that was given as None.
"""

import shutil
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

BAR_WIDTH = 24
REDRAW_SECONDS = 0.1
PLAIN_LINE_SECONDS = 10.0


class Progress:
    """Counts items of one epoch towards `total` and shows the share done, the mean loss, items/s and the time left.

    clock: seconds, never running backwards. Speed and time left are measured with it, so a clock that stands still
    while something else goes on (compiling) leaves that out of them.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        stream: TextIO | None,
        unit: str = "images",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.note = ""  # shown at the end of the line
        self._loss_sum = 0.0
        self._stream, self._clock = stream, clock
        self._live = stream is not None and stream.isatty()
        self._interval = REDRAW_SECONDS if self._live else PLAIN_LINE_SECONDS
        self._start = self._latest = self._shown = clock()

    def __enter__(self) -> Self:
        if self._live:
            self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on a line of its own; an interrupted epoch keeps what it reached."""
        if self._live or kind is None:
            self._draw(last=True)

    def advance(self, count: int, loss: float) -> None:
        """`count` more items are done, with `loss` as their mean loss."""
        self.done += count
        self._loss_sum += loss * count
        self._latest = self._clock()
        if self._latest - self._shown < self._interval:
            return
        self._shown = self._latest
        self._draw()

    @property
    def loss(self) -> float:
        """The mean loss of the items done; nan before the first."""
        return self._loss_sum / self.done if self.done else float("nan")

    @property
    def seconds(self) -> float:
        """Seconds from the start to the latest `advance`, by the clock; what comes after (a test) is left out."""
        return self._latest - self._start

    @property
    def rate(self) -> float:
        """Items per second, by the clock; 0 before anything could be measured."""
        seconds = self.seconds
        return self.done / seconds if seconds > 0 else 0.0

    def line(self, bar: str = "", columns: int = 120) -> str:
        """The state in one line of at most `columns`, the bar giving way first.

        `bar` is the two characters for what is done and what is not; empty for no bar.
        """
        share = self.done / self.total if self.total else 1.0
        parts = [f"{share:4.0%}"]
        if self.done:
            parts += [f"loss {self.loss:.4f}", f"{self.rate:9,.0f} {self.unit}/s", self._time(), self.note]
        text = "  ".join(filter(None, parts))
        width = min(BAR_WIDTH, columns - len(f"{self.label}    {text}"))
        if not bar or width < 1:
            return f"{self.label}  {text}"[:columns]
        filled = min(width, int(share * width))
        return f"{self.label}  {bar[0] * filled}{bar[1] * (width - filled)}  {text}"

    def _time(self) -> str:
        left = self.total - self.done
        if left <= 0:
            return f"{self.seconds:.1f} s"
        return f"{_hours(left / self.rate)} left" if self.rate else ""

    def _draw(self, last: bool = False) -> None:
        if self._stream is None:
            return
        if not self._live:
            self._stream.write(self.line() + "\n")
        else:
            clear_rest = "\x1b[K"
            last_column = shutil.get_terminal_size().columns - 1  # a line that wraps could not be drawn over
            line = self.line(_bar_characters(self._stream), last_column)
            self._stream.write("\r" + line + clear_rest + ("\n" if last else ""))
        self._stream.flush()


def _bar_characters(stream: TextIO) -> str:
    """Blocks where the stream can write them, ASCII elsewhere."""
    try:
        "█░".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#."
    return "█░"


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
