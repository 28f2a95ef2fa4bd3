"""Progress in words."""

from ctrak_jax.progress.overall import InAll
from ctrak_jax.progress.pieces import Left

UNKNOWN = "time left unknown"


def span(seconds: float) -> str:
    """Seconds as one reads them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 9.95:
        return f"{minutes:.1f} min"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def left(found: Left) -> str:
    """The time that is left."""
    if found.seconds is None:
        return UNKNOWN
    return f"{'' if found.whole else 'at least '}{span(found.seconds)} left"


def in_all(found: InAll) -> str:
    """The time that a command has left."""
    if found.seconds is None:
        return "left in all: unknown"
    unknown = ", ".join(found.unknown)
    if unknown:
        return f"at least {span(found.seconds)} left in all, without {unknown}"
    return f"about {span(found.seconds)} left in all"


def rate(found: float) -> str:
    """Items per second, or seconds per item."""
    return f"{found:.1f}/s" if found >= 0.95 else f"{1 / found:.1f} s each"
