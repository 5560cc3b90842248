"""TensorFlow 1's classic leak: a loop that declares operations and runs them, `GrowthWatch`.

    for batch in batches:
        sess.run(tf.reduce_mean(tf.square(y - batch)))      # three new operations a turn, compiled, never freed

A line of the user's program that adds operations in each of `TURNS` spans between two runs of a session leaks: that
session warns once, at that line.  A line may add as many operations as it likes in one such span, and a notebook may
build on after its first runs: neither is a loop.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphflow.core.source import Source
    from graphflow.framework.graph import Graph, Operation

__all__ = ["TURNS", "GrowthWatch"]

TURNS = 8
"""In so many spans between runs a line may add operations without a warning, less one."""


class GrowthWatch:
    """Watches a graph from the first run of a session on.

    runs: a bound method that answers a number which changes with every run; its owner may go at any time.
    """

    def __init__(self, graph: Graph, runs: Callable[[], int]) -> None:
        self._graph = graph
        self._runs = weakref.WeakMethod(runs)
        self._seen: dict[Source, tuple[int, int]] = {}  # line -> (in how many spans, runs at the last of them)
        self._begun = False

    def begin(self) -> None:
        """A run is being made: what is added from now on is looked at."""
        if not self._begun:
            self._begun = True
            self._graph.watches.append(self._added)

    def end(self) -> None:
        """Nothing more is looked at."""
        if self._added in self._graph.watches:
            self._graph.watches.remove(self._added)
        self._seen.clear()

    def _added(self, operation: Operation) -> None:
        runs = self._runs()
        if runs is None:  # the session is gone
            self.end()
            return
        turns, last = self._seen.get(operation.source, (0, -1))
        now = runs()
        if now == last:
            return
        self._seen[operation.source] = turns + 1, now
        if turns + 1 >= TURNS:
            self.end()
            self._warn(operation)

    def _warn(self, operation: Operation) -> None:
        source = operation.source
        warnings.warn_explicit(
            f"{source} adds operations to the graph again and again, between runs of a session: '{operation.name}' "
            f"({operation.type}) is one of {self._graph.version}. Each is compiled anew and never freed. Declare it "
            "once, before the loop, and feed what changes; graph.finalize() makes an error of what adds operations",
            RuntimeWarning,
            source.file,
            source.line,
        )
