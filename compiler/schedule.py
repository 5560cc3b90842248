"""When kernels run: `schedule` gives each the number of its wave.

Kernels of one wave do not need each other and run side by side.  A kernel runs as soon as it can, unless so much would
be alive at once that taking turns pays: then the kernel goes first that leaves the least alive, and large kernels,
which keep all threads busy alone, wait for each other.

    e0 = exp(x0)  s0 = sum(e0)        as soon as possible:  e0 e1 e2 | s0 s1 s2     three rows alive
    e1 = exp(x1)  s1 = sum(e1)        taking turns:         e0 | s0 e1 | s1 e2 | s2  two, for large rows
    e2 = exp(x2)  s2 = sum(e2)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Task", "peak", "schedule"]

SMALL = 1 << 20
"""An arena of so many bytes fits into a cache; nothing is gained by a smaller one."""

WORTH = 0.9
"""Taking turns must lower the peak to this part of it."""

FULL = 1 << 20
"""A wave of so much work keeps all threads busy."""

LITTLE = FULL >> 4
"""So little work may always join a wave."""


@dataclass(frozen=True)
class Task:
    """A kernel: the tasks that must run before it (all earlier in the list), the buffers that it reads or writes, and
    about how many scalar operations it takes."""

    needs: frozenset[int]
    touches: tuple[Hashable, ...]
    work: int = 0


def schedule(tasks: Sequence[Task], sizes: Mapping[Hashable, int]) -> list[int]:
    """The wave of each task; `sizes` are the bytes of the buffers that count."""
    soon = _soonest(tasks)
    most = peak(tasks, soon, sizes)
    if most <= SMALL:
        return soon
    lean = _Turns(tasks, sizes).waves()
    return lean if peak(tasks, lean, sizes) <= WORTH * most else soon


def peak(tasks: Sequence[Task], waves: Sequence[int], sizes: Mapping[Hashable, int]) -> int:
    """The most bytes that are alive in one wave."""
    life: dict[Hashable, tuple[int, int]] = {}
    for task, wave in zip(tasks, waves, strict=True):
        for buffer in task.touches:
            first, last = life.get(buffer, (wave, wave))
            life[buffer] = min(first, wave), max(last, wave)
    alive = [0] * (max(waves, default=0) + 2)
    for buffer, (first, last) in life.items():
        alive[first] += sizes.get(buffer, 0)
        alive[last + 1] -= sizes.get(buffer, 0)
    total = most = 0
    for change in alive:
        total += change
        most = max(most, total)
    return most


def _soonest(tasks: Sequence[Task]) -> list[int]:
    waves: list[int] = []
    for task in tasks:
        waves.append(1 + max((waves[n] for n in task.needs), default=-1))
    return waves


class _Turns:
    """Waves, one after the other, of what leaves the least alive."""

    def __init__(self, tasks: Sequence[Task], sizes: Mapping[Hashable, int]) -> None:
        self.tasks, self.sizes = tasks, sizes
        self.waiting = [len(task.needs) for task in tasks]
        self.users: list[list[int]] = [[] for _ in tasks]
        self.left: dict[Hashable, set[int]] = {}  # for each buffer the tasks that will still touch it
        for n, task in enumerate(tasks):
            for need in task.needs:
                self.users[need].append(n)
            for buffer in task.touches:
                self.left.setdefault(buffer, set()).add(n)
        self.alive: set[Hashable] = set()
        self.bytes = self.most = 0
        self.costs: dict[int, tuple[int, int]] = {}

    def waves(self) -> list[int]:
        """The wave of each task."""
        found = [0] * len(self.tasks)
        ready = {n for n, count in enumerate(self.waiting) if not count}
        wave = 0
        while ready:
            chosen = self._wave(ready)
            for n in chosen:
                found[n] = wave
                ready |= self._done(n)
            ready -= set(chosen)
            wave += 1
        return found

    def _wave(self, ready: set[int]) -> list[int]:
        """What runs side by side next."""
        chosen: list[int] = []
        load = new = 0
        for n in sorted(ready, key=lambda n: (self._cost(n)[1], n)):
            allocated, work = self._cost(n)[0], self.tasks[n].work
            free = self.bytes + new + allocated <= self.most
            if chosen and load + work > FULL and work > LITTLE and not free:
                continue
            chosen.append(n)
            load, new = load + work, new + allocated
        self.most = max(self.most, self.bytes + new)
        return chosen

    def _cost(self, n: int) -> tuple[int, int]:
        """(bytes that a task makes alive, how many more are alive after it)."""
        if n not in self.costs:
            touched = set(self.tasks[n].touches)
            made = sum(self.sizes.get(b, 0) for b in touched - self.alive)
            freed = sum(self.sizes.get(b, 0) for b in touched if self.left[b] == {n})
            self.costs[n] = made, made - freed
        return self.costs[n]

    def _done(self, n: int) -> set[int]:
        """Take note that a task ran; returns what can run after it."""
        for buffer in set(self.tasks[n].touches):
            if buffer not in self.alive:
                self.alive.add(buffer)
                self.bytes += self.sizes.get(buffer, 0)
            self.left[buffer].discard(n)
            if not self.left[buffer]:
                self.bytes -= self.sizes.get(buffer, 0)
            for other in self.left[buffer]:
                self.costs.pop(other, None)
        for user in self.users[n]:
            self.waiting[user] -= 1
        return {user for user in self.users[n] if not self.waiting[user]}
