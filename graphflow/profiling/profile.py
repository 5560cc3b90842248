"""`tf.profile`: record what sessions run within a block, write it as a trace, print it as tables.

    with tf.profile("trace.json") as p:
        for _ in range(100):
            sess.run(train_op, feed_dict={x: images})
    print(p.table(by="line"))

The file is for Perfetto (ui.perfetto.dev) and chrome://tracing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Self

from graphflow.bench.roofline import Limits, quick_limits
from graphflow.profiling.table import kernel_rows, pass_rows, printed_kernels, printed_passes
from graphflow.profiling.trace import chrome_trace
from graphflow.runtime.recorder import Recorder
from graphflow.runtime.recording import drain, start, stop

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Profile", "profile"]

EVENTS = 100_000


def profile(file: str | os.PathLike[str] | None = None, *, events: int = EVENTS, roofline: bool = False) -> Profile:
    """A block whose runs are recorded: of all sessions, in all threads.

    file: where the trace is written when the block ends, with an exception too; whole or not at all.
    events: how many the trace has at most, the last ones; tables count all runs.
    roofline: measure what the machine can do, once in a process and for about a second, so that kernels can be held
    against it.
    FileNotFoundError if the file's folder does not exist; ValueError if no events are wanted.
    """
    return Profile(None if file is None else Path(file), events, roofline)


class Profile:
    """What was recorded.  It may be looked at within the block and after it."""

    def __init__(self, file: Path | None, events: int, roofline: bool) -> None:
        self.file = file
        self._recorder = Recorder(events)
        self.limits: Sequence[Limits] | None = None
        self._roofline = roofline

    def __enter__(self) -> Self:
        if self.file is not None and not self.file.absolute().parent.is_dir():
            raise FileNotFoundError(f"the trace {str(self.file)!r} can't be written: there is no such folder")
        if self._roofline:
            self.limits = quick_limits()
        start(self._recorder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stop(self._recorder)
        if self.file is not None:
            write_whole(self.file, json.dumps(self.trace()))

    def __str__(self) -> str:
        return self.table()

    @property
    def recorder(self) -> Recorder:
        """What was recorded up to now."""
        drain()
        return self._recorder

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return self.recorder.count

    @property
    def dropped(self) -> int:
        """How many of these, the first ones, are not in the trace because there was no room."""
        return self.recorder.dropped

    @property
    def seconds(self) -> float:
        """How long all runs took together."""
        return self.recorder.nanoseconds * 1e-9

    def trace(self) -> dict[str, Any]:
        """The trace, as it is written to the file."""
        return chrome_trace(self.recorder, self.limits)

    def rows(self, by: str = "op") -> list[dict[str, Any]]:
        """What `table` prints, as data; times in seconds.

        by: "op", "scope", "line" or "kernel", of what ran; "pass", of what was compiled.  ValueError for others.
        """
        return pass_rows(self.recorder) if by == "pass" else kernel_rows(self.recorder, by, self.limits)

    def table(self, by: str = "op") -> str:
        """Where the time went, the most first; `by` as in `rows`."""
        rows = self.rows(by)
        if by == "pass":
            return printed_passes(rows)
        return printed_kernels(rows, by, self.runs, self.seconds)


def write_whole(file: Path, text: str) -> None:
    """Put a text in place of a file; at no moment is there a part of it."""
    with NamedTemporaryFile("w", encoding="utf-8", dir=file.absolute().parent, suffix=".tmp", delete=False) as new:
        try:
            new.write(text)
            new.close()
            os.replace(new.name, file)
        except BaseException:
            new.close()
            Path(new.name).unlink(missing_ok=True)
            raise
