"""A clock that a test moves."""

from ctrak_jax.progress.compiling import Compilation


class FakeClock:
    """Seconds, and a compilation on them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.compiling = Compilation(self)

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Time in which nothing is compiled."""
        self.now += seconds

    def compile_(self, seconds: float) -> None:
        """Time in which a program is compiled."""
        self.compiling.begin()
        self.now += seconds
        self.compiling.end(seconds)
