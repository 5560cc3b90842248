"""The progress line: what it shows, how often it is redrawn, and what a pipe gets instead."""

import io
import math

import pytest

from graphflow.progress import PLAIN_LINE_SECONDS, Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # StringIO has no encoding that could be set
        return self._encoding


@pytest.fixture(autouse=True)
def _terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_line_shows_share_mean_loss_speed_and_time_left() -> None:
    clock = Clock()
    progress = Progress("epoch 1/5", 1000, stream=None, clock=clock)
    clock.now += 2
    progress.advance(100, loss=3.0)
    progress.advance(100, loss=1.0)
    assert progress.loss == 2.0
    assert progress.rate == 100.0
    assert (
        progress.line("█░")
        == "epoch 1/5  " + "█" * 4 + "░" * 20 + "   20%  loss 2.0000        100 images/s  0:00:08 left"
    )


def test_line_of_a_finished_epoch_shows_its_time() -> None:
    clock = Clock()
    progress = Progress("e", 10, stream=None, clock=clock)
    clock.now += 2.5
    progress.advance(10, loss=1.0)
    assert progress.line() == "e  100%  loss 1.0000          4 images/s  2.5 s"


@pytest.mark.parametrize("columns", [10, 60, 70, 80, 100])
def test_line_keeps_to_the_width_of_the_terminal(columns: int) -> None:
    clock = Clock()
    progress = Progress("epoch 1/5", 1000, stream=None, clock=clock)
    clock.now += 2
    progress.advance(500, loss=3.0)
    line = progress.line("█░", columns)
    assert len(line) <= columns
    assert line.startswith("epoch 1/5")
    assert ("█" in line) == (columns >= 70)


def test_note_stands_at_the_end() -> None:
    progress = Progress("e", 10, stream=None, clock=Clock())
    progress.advance(10, loss=1.0)
    progress.note = "test accuracy 90%"
    assert progress.line().endswith("0.0 s  test accuracy 90%")


def test_nothing_is_claimed_before_the_first_item() -> None:
    progress = Progress("e", 10, stream=None)
    assert math.isnan(progress.loss)
    assert progress.line() == "e    0%"


def test_a_clock_that_does_not_move_gives_no_speed() -> None:
    progress = Progress("e", 10, stream=None, clock=Clock())
    progress.advance(5, loss=1.0)
    assert progress.rate == 0
    assert "left" not in progress.line()


def test_terminal_is_redrawn_at_most_ten_times_a_second() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("e", 1000, stream=stream, clock=clock) as progress:
        for _ in range(1000):
            clock.now += 0.001
            progress.advance(1, loss=1.0)
    assert 10 <= stream.getvalue().count("\r") <= 12
    assert stream.getvalue().count("\n") == 1
    assert "100%" in stream.getvalue().split("\r")[-1]


def test_terminal_that_cannot_write_blocks_gets_ascii() -> None:
    stream = Terminal(encoding="ascii")
    with Progress("e", 2, stream=stream) as progress:
        progress.advance(1, loss=1.0)
    assert stream.getvalue().isascii() or "\x1b" in stream.getvalue()
    assert "#" in stream.getvalue()
    assert "█" not in stream.getvalue()


def test_pipe_gets_plain_lines_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("e", 30, stream=stream, clock=clock) as progress:
        for _ in range(30):
            clock.now += PLAIN_LINE_SECONDS / 10
            progress.advance(1, loss=1.0)
    lines = stream.getvalue().splitlines()
    assert 3 <= len(lines) <= 4
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert "100%" in lines[-1]


def test_interrupted_terminal_line_is_ended() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress("e", 10, stream=stream):
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\n")


def test_interrupted_pipe_gets_no_line_about_an_end() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress("e", 10, stream=stream):
        raise KeyboardInterrupt
    assert stream.getvalue() == ""
