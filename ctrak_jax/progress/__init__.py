"""How far a command has come: pieces counted, compilation apart, and what is left in all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ctrak_jax import meeting
from ctrak_jax.progress.beacon import Process, tracked
from ctrak_jax.progress.board import Count, board
from ctrak_jax.progress.compiling import compilation, watch
from ctrak_jax.progress.overall import Basis, Overall
from ctrak_jax.progress.parts import parts

__all__ = [
    "Basis",
    "Meter",
    "Overall",
    "Process",
    "board",
    "compilation",
    "meter",
    "parts",
    "tracked",
    "watch",
]


class Meter:
    """Counts finished items; a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def advance(self, count: int, kind: str = "") -> None:
        """So many items of a kind are finished."""
        self._count.advance(count, kind)
        meeting.progress()
        board.tick()


@contextmanager
def meter(title: str, total: Mapping[str, int] | int, done: int = 0) -> Iterator[Meter]:
    """A :class:`Meter` that ends whatever happens.

    Args:
        total: how many items, or how many of every kind; those of a kind take about as long as
            each other.
        done: how many are there already.
    """
    watch()
    count = board.open(title, total, done)
    try:
        yield Meter(count)
    finally:
        board.close()
