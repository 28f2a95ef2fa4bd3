"""What this process is doing: its command's stages, the meters that count now, the last warning."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich import progress
from rich.console import Console
from rich.text import Text

from ctrak_jax.progress import words
from ctrak_jax.progress.compiling import Compilation, compilation
from ctrak_jax.progress.overall import Overall
from ctrak_jax.progress.pieces import Pieces

logger = logging.getLogger("ctrak")
console = Console(stderr=True)
QUIET_SECONDS = 20.0
"""Without a terminal, seconds between progress lines."""
TOLD_SECONDS = 5.0
"""A compilation that took so long gets a line."""


class Count(Pieces):
    """Pieces of work with a title."""

    def __init__(self, title: str, total: Mapping[str, int] | int, done: int, board: "Board"):
        super().__init__(total, done, board.clock, board.compiling)
        self.title, self._board = title, board
        self._compiled_from = self.started

    @property
    def state(self) -> str:
        """What is going on: compiling for so long, or how fast and how long still."""
        now, since = self._clock(), self._compiling.since
        if since is not None and now - since >= 1:
            return f"compiling, {now - since:.0f} s"
        speed = self.rate
        if speed:
            return f"{words.rate(speed)}, {words.left(self.left)}"
        so_far = f"{words.span(self.work(self.started))} so far"
        return so_far if self.total == 1 else f"{words.UNKNOWN}, {so_far}"

    @property
    def amount(self) -> str:
        """How much is done; empty where it is one piece."""
        return f"{self.done}/{self.total}, {self.fraction:.0%}, " if self.total > 1 else ""

    def compiled(self) -> float:
        """Seconds of compilation that have not been told, once they are enough for a line."""
        now = self._clock()
        found = self._compiling.seconds(self._compiled_from, now)
        if found < TOLD_SECONDS or self._compiling.since is not None:
            return 0.0
        self._compiled_from = now
        return found


class Board:
    """The state that is shown and written; ``clock`` in seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, compiling: Compilation = compilation
    ) -> None:
        self.clock, self.compiling = clock, compiling
        self.counts: list[Count] = []
        self.overall: Overall | None = None
        self.title = ""
        self.warning: dict[str, Any] | None = None
        self._told = clock()
        self._bar: progress.Progress | None = None
        self._tasks: list[progress.TaskID] = []

    def open(self, title: str, total: Mapping[str, int] | int, done: int = 0) -> Count:
        """Begin to count; on a terminal with a bar."""
        count = Count(title, total, done, self)
        if not self.counts:
            self._told = self.clock()
        self.counts.append(count)
        if console.is_terminal:
            if self._bar is None:
                self._bar = _bar()
                self._bar.start()
            name = self.heading(title)
            self._tasks.append(
                self._bar.add_task(name, total=count.total, completed=count.done, board=self)
            )
            self._bar.tasks[-1].fields["count"] = count
        return count

    def close(self) -> None:
        """End the count begun last."""
        count = self.counts.pop()
        self._tell_compilation(count)
        if self._bar is None:
            return
        task = self._tasks.pop()
        self._bar.update(task, completed=count.done)
        if self._tasks:
            self._bar.remove_task(task)
            return
        self._bar.stop()
        self._bar = None

    def heading(self, title: str) -> str:
        """A title with the number of its stage."""
        overall = self.overall
        if overall is None or not overall.number or len(overall.stages) == 1:
            return title
        return f"stage {overall.number} of {len(overall.stages)}, {title}"

    @property
    def outer(self) -> Count | None:
        """The count of the stage's part."""
        return self.counts[0] if self.counts else None

    def tick(self) -> None:
        """Show what has changed: the bar of a terminal, elsewhere a line now and then."""
        counts = self.counts[:]
        if not counts:
            return
        count = counts[-1]
        self._tell_compilation(count)
        if self._bar is not None and len(self._tasks) == len(counts):
            self._bar.update(self._tasks[-1], completed=count.done)
            return
        if self.clock() - self._told > QUIET_SECONDS:
            self._told = self.clock()
            logger.info("%s", self.line(count))

    def line(self, count: Count) -> str:
        """A line of progress, with the counts that this one is within."""
        inner = f"{count.title}: " if count is not self.outer else ""
        parts = [f"{inner}{count.amount}{count.state}"]
        if inner and self.outer is not None:
            parts.insert(0, f"{self.outer.amount}{words.left(self.outer.left)}")
        if all_left := self.all_left():
            parts.append(all_left)
        title = count.title if self.outer is None else self.outer.title
        return f"{self.heading(title)}: {'; '.join(parts)}"

    def all_left(self) -> str:
        """What the command has left in words; empty where it has one stage."""
        overall = self.overall
        if overall is None or len(overall.stages) == 1:
            return ""
        return words.in_all(overall.in_all(self.outer))

    def _tell_compilation(self, count: Count) -> None:
        if seconds := count.compiled():
            logger.info("%s: compiled in %.0f s", self.heading(count.title), seconds)

    def warned(self, text: str) -> None:
        """Remember a warning."""
        self.warning = {"at": time.time(), "text": text}


class _State(progress.ProgressColumn):
    """Compilation, or rate and time left; beside the outer bar the time that the command has
    left."""

    def render(self, task: progress.Task) -> Text:
        count, board = task.fields.get("count"), task.fields["board"]
        if count is None:
            return Text("")
        in_all = board.all_left() if count is board.outer else ""
        return Text("; ".join(filter(None, (count.state, in_all))))


def _bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=20),
        progress.MofNCompleteColumn(),
        _State(),
        console=console,
    )


class Warnings(logging.Handler):
    """Passes warnings to the board."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        board.warned(record.getMessage())


board = Board()
"""Of this process."""
