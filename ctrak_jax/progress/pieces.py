"""How fast pieces of work are finished, and how long those left take."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ctrak_jax.progress.compiling import Compilation, compilation

RECENT, RECENT_SECONDS = 8, 30.0
"""A rate is that of so many last pieces, and of so many last seconds."""
COMPILED, MOSTLY = 0.05, 0.5
"""Where compilation took a larger share of a piece's time than the first, a piece without it is a
better measure; where than the second, the piece is no measure at all: reading, first calls and the
devices' own work beside the compilation outweigh what is left."""


class Left(NamedTuple):
    """Seconds of work that are left; None where there is nothing to tell them by. A lower bound
    where not ``whole``: some of the work is of a kind that has not been seen."""

    seconds: float | None
    whole: bool = True


class Piece(NamedTuple):
    """Items, the seconds they took without compilation, and whether there was next to none."""

    items: int
    seconds: float
    clean: bool


class Recent:
    """The last pieces of one kind."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        while len(self._pieces) > RECENT and self._seconds() - self._pieces[0].seconds > (
            RECENT_SECONDS
        ):
            self._pieces.popleft()

    def _seconds(self) -> float:
        return sum(piece.seconds for piece in tuple(self._pieces))

    @property
    def usable(self) -> list[Piece]:
        """The pieces without compilation; those with it while there are no others."""
        pieces = list(self._pieces)  # another thread may add one
        return [p for p in pieces if p.clean] or pieces

    @property
    def rate(self) -> float | None:
        """Items per second."""
        usable = self.usable
        seconds = sum(piece.seconds for piece in usable)
        return sum(piece.items for piece in usable) / seconds if seconds > 0 else None

    @property
    def piece_seconds(self) -> float:
        """What a piece usually takes."""
        usable = self.usable
        return sum(piece.seconds for piece in usable) / max(len(usable), 1)


class Pieces:
    """Counts finished items; those of one ``kind`` take about as long as each other.

    Args:
        total: items of every kind.
        done: of them, those that are there already.
        clock: seconds.
        compiling: its time is left out.
    """

    def __init__(
        self,
        total: Mapping[str, int] | int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
        compiling: Compilation = compilation,
    ) -> None:
        self._clock, self._compiling = clock, compiling
        self._todo = {"": total - done} if isinstance(total, int) else dict(total)
        self._recent: dict[str, Recent] = {}
        self._last_kind = ""
        self.total = sum(self._todo.values()) + done
        self.first = self.done = done
        self.started = self.last = clock()

    def advance(self, count: int, kind: str = "") -> None:
        """So many items of a kind are finished."""
        now = self._clock()
        elapsed, compiled = now - self.last, self._compiling.seconds(self.last, now)
        seconds = max(elapsed - compiled, 0.0)
        if compiled <= MOSTLY * elapsed:
            piece = Piece(count, seconds, compiled <= COMPILED * elapsed)
            self._recent.setdefault(kind, Recent()).add(piece)
        self._todo[kind] = self._todo.get(kind, 0) - count
        self.done, self.last, self._last_kind = self.done + count, now, kind

    @property
    def fraction(self) -> float:
        """Share of the items that are finished."""
        return self.done / self.total if self.total else 1.0

    @property
    def rate(self) -> float | None:
        """Items per second, of the kind that was finished last."""
        recent = self._recent.get(self._last_kind)
        return None if recent is None else recent.rate

    @property
    def piece_seconds(self) -> float | None:
        """What a piece of that kind usually takes."""
        recent = self._recent.get(self._last_kind)
        return None if recent is None else recent.piece_seconds

    @property
    def left(self) -> Left:
        """What is left now, of a piece that is being worked on, too."""
        known, whole = None, True
        for kind, count in list(self._todo.items()):
            rate = self._recent[kind].rate if kind in self._recent else None
            if rate:
                known = (known or 0.0) + max(count, 0) / rate
            elif count > 0:
                whole = False
        if known is None:
            return Left(None, whole)
        worked = self.work(self.last)
        return Left(max(known - min(worked, self.piece_seconds or 0.0), 0.0), whole)

    def work(self, since: float) -> float:
        """Seconds from a time until now, without compilation."""
        now = self._clock()
        return max(now - since - self._compiling.seconds(since, now), 0.0)
