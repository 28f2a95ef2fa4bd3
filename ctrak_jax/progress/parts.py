"""The parts of a stage."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ctrak_jax.progress.board import board

Item = TypeVar("Item")


def parts(items: Sequence[Item], weights: Sequence[float | None] | None = None) -> Iterator[Item]:
    """The items, each a part of the stage that the command is at.

    Args:
        weights: how much work each is, in any unit; without them that is not known.
    """
    overall = board.overall
    if overall is not None:
        overall.parts([None] * len(items) if weights is None else weights)
    for number, item in enumerate(items):
        if overall is not None:
            overall.part(number)
        yield item
