"""Seconds that this process has spent compiling, by JAX's own events.

Tracing, lowering and XLA's compilation (or the read of a program from the compilation cache) each
report their seconds when they end, and most say when they begin. They nest, and several threads
have them at once: their union is counted.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EVENTS = "/jax/core/compile/"
"""What the names of JAX's events of compilation begin with."""


class Compilation:
    """When programs were compiled, on the clock of its owner."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spans: list[tuple[float, float]] = []
        self._open: dict[int, list[tuple[str, float]]] = {}
        self._lock = threading.Lock()

    def begin(self, part: str = "") -> None:
        """This thread begins a part of a compilation."""
        with self._lock:
            self._open.setdefault(threading.get_ident(), []).append((part, self._clock()))

    def end(self, seconds: float, part: str = "") -> None:
        """It is done, and took so long. Some parts tell their end alone."""
        with self._lock:
            begun = self._open.get(threading.get_ident())
            if begun and begun[-1][0] == part:
                begun.pop()
            stop = self._clock()
            start, spans = stop - seconds, self._spans
            while spans and spans[-1][1] >= start:
                start = min(start, spans.pop()[0])
            spans.append((start, stop))

    @property
    def since(self) -> float | None:
        """When what is compiled now was begun."""
        with self._lock:
            return min((begun[0][1] for begun in self._open.values() if begun), default=None)

    def seconds(self, start: float, stop: float) -> float:
        """How long programs were compiled between two times."""
        now = self.since
        closed = stop if now is None else min(stop, now)
        found = 0.0 if now is None else max(stop - max(start, now), 0.0)
        with self._lock:
            for begun, ended in reversed(self._spans):
                if ended <= start:
                    break
                found += max(min(ended, closed) - max(begun, start), 0.0)
        return found


compilation = Compilation()
"""Of this process."""
_WATCHED: list[Compilation] = []


def watch() -> None:
    """Listen to JAX's events, where JAX is loaded."""
    if _WATCHED or "jax" not in sys.modules:
        return
    import jax

    _WATCHED.append(compilation)
    jax.monitoring.register_event_duration_secs_listener(_ended)
    jax.monitoring.register_scalar_listener(_begun)


def _begun(event: str, value: float | int, **_: Any) -> None:
    # Others report other things by the same events, in whole numbers, too.
    if event.startswith(EVENTS):
        compilation.begin(event)


def _ended(event: str, duration_secs: float | int, **_: Any) -> None:
    if event.startswith(EVENTS):
        compilation.end(duration_secs, event)
