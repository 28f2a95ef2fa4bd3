"""The stages of a command: which one it is at, and how long all that are left take.

The seconds of a later stage, and of the present one before its first piece is finished, are those
of an earlier run with the same settings on the same devices, or its FLOPs at the rate of FLOPs that
this command has reached. Of a stage without either, nothing is said.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ctrak_jax.progress.compiling import Compilation, compilation
from ctrak_jax.progress.pieces import Left, Pieces


class Basis(NamedTuple):
    """What the time of a stage can be told by.

    Attributes:
        seconds: that stages took in an earlier run, without compilation.
        flops: of stages, where they are simple to count.
    """

    seconds: Mapping[str, float] = {}
    flops: Mapping[str, float] = {}


NOTHING = Basis()


class InAll(NamedTuple):
    """Seconds that all stages have left, but for those that are not known, or not whole; None where
    nothing is known of the present one."""

    seconds: float | None
    unknown: tuple[str, ...]


class Overall:
    """Where a command is in its stages.

    Args:
        stages: their names, in order.
        basis: what their time can be told by.
        clock: seconds.
        compiling: its time is left out.
    """

    def __init__(
        self,
        stages: Sequence[str],
        basis: Basis = NOTHING,
        clock: Callable[[], float] = time.monotonic,
        compiling: Compilation = compilation,
    ) -> None:
        self.stages, self._basis = tuple(stages), basis
        self._clock, self._compiling = clock, compiling
        self.number, self._begun = 0, clock()
        self._part_begun = self._begun
        self._speed: float | None = None
        self._weights: tuple[float | None, ...] = (1.0,)
        self._part = 0

    @property
    def stage(self) -> str:
        """The one it is at; empty before the first."""
        return self.stages[self.number - 1] if self.number else ""

    def begin(self, stage: str) -> None:
        """The command is at a stage, which has one part until it says more. One that is none of
        its stages has nothing to do."""
        if stage not in self.stages:
            return
        self.number, self._begun = self.stages.index(stage) + 1, self._clock()
        self.parts((1.0,))

    def parts(self, weights: Sequence[float | None]) -> None:
        """The stage has parts of so much work each; None where that is not known."""
        self._weights = tuple(weights)
        self.part(0)

    def part(self, number: int) -> None:
        """The stage is at a part, from 0."""
        self._part, self._part_begun = number, self._clock()

    def left(self, pieces: Pieces | None) -> Left:
        """What the stage has left, by the pieces of its part."""
        here = Left(None, whole=False) if pieces is None else pieces.left
        later = self._weights[self._part + 1 :]
        if not later or here.seconds is None or pieces is None:
            return here._replace(whole=here.whole and not later)
        own, rate = self._weights[self._part], pieces.rate
        if not own or not rate or None in later:
            return here._replace(whole=False)
        every = pieces.total / rate
        return here._replace(seconds=here.seconds + every * sum(w or 0.0 for w in later) / own)

    def measure(self, pieces: Pieces) -> None:
        """Take the speed of FLOPs from the pieces of a stage whose FLOPs are known."""
        flops, weights = self._basis.flops.get(self.stage), self._weights
        if flops and pieces.rate and pieces.total and None not in weights:
            share = (weights[self._part] or 0.0) / (sum(w or 0.0 for w in weights) or 1.0)
            self._speed = flops * share / pieces.total * pieces.rate

    def in_all(self, pieces: Pieces | None) -> InAll:
        """What the command has left."""
        if pieces is not None:
            self.measure(pieces)
        here = self.left(pieces)
        if here.seconds is None:
            here = self._before_pieces(pieces)
        known = [here.seconds or 0.0]
        unknown = [] if here.seconds is not None and here.whole else [self.stage]
        for stage in self.stages[self.number :]:
            seconds = self._expected(stage)
            if seconds is None:
                unknown.append(stage)
            else:
                known.append(seconds)
        return InAll(None if here.seconds is None else sum(known), tuple(filter(None, unknown)))

    def _before_pieces(self, pieces: Pieces | None) -> Left:
        """What the stage has left of the time that it should take; unknown once that is over."""
        expected, weights = self._expected(self.stage), [w for w in self._weights if w is not None]
        if expected is None:
            return Left(None, whole=False)
        since = self._begun
        if len(weights) == len(self._weights) and sum(weights) > 0:
            since = self._part_begun
            there = pieces.first / pieces.total if pieces is not None and pieces.total else 0.0
            later = sum(weights[self._part :]) - there * weights[self._part]
            expected *= later / sum(weights)
        now = self._clock()
        worked = max(now - since - self._compiling.seconds(since, now), 0.0)
        return Left(expected - worked) if worked < expected else Left(None, whole=False)

    def _expected(self, stage: str) -> float | None:
        if stage in self._basis.seconds:
            return self._basis.seconds[stage]
        flops = self._basis.flops.get(stage)
        return flops / self._speed if flops is not None and self._speed else None
