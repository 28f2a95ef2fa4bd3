"""Versions: Python's, the package's, and those of what it is built on.

What the package asks for is read from its installed metadata; what its tests ran with stands in
``requirements.lock``, which a checkout has and a wheel has not.
"""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.doctor.checks import Check
from ctrak_jax.errors import pip_install

GROUP = "versions"
PACKAGE = "ctrak-jax"
LOCK = "requirements.lock"
SHOWN = 8
"""Packages named where the lock has others."""

_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)(?:\[[^]]*\])?\s*(?P<bounds>[^;]*)(?:;.*extra\s*==\s*['\"](?P<extra>[\w-]+))?"
)
_BOUND = re.compile(r"(>=|==|<)\s*([\d.]+)")
_LOCKED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+?)\s*(?:;\s*(.*?))?\s*\\?$", re.MULTILINE)


class Requirement(NamedTuple):
    """What the package asks for: a distribution, its bounds as ``>=0.35,<0.40``, and the optional
    part that it belongs to."""

    name: str
    bounds: str
    extra: str | None


def required() -> list[Requirement]:
    """All that the installed package asks for."""
    return [parsed(line) for line in requires(PACKAGE) or ()]


def parsed(line: str) -> Requirement:
    """One line of the metadata."""
    match = _REQUIREMENT.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no requirement")
    return Requirement(match["name"], match["bounds"].strip(), match["extra"])


def within(found: str, bounds: str) -> bool:
    """Does a version lie within bounds? Releases are compared, not what follows their numbers."""
    for sign, bound in _BOUND.findall(bounds):
        mine, other = _release(found), _release(bound)
        width = max(len(mine), len(other))
        mine, other = (part + (0,) * (width - len(part)) for part in (mine, other))
        holds = {">=": mine >= other, "<": mine < other, "==": mine == other}
        if not holds[sign]:
            return False
    return True


def _release(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def installed(name: str) -> str | None:
    """A distribution's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def checks() -> Iterator[Check]:
    """Python, the package, what it asks for, and the lock."""
    yield Check(GROUP, "python", "ok", f"{platform.python_version()}, {platform.platform()}")
    yield Check(GROUP, PACKAGE, "ok", version(PACKAGE))
    for name, bounds, extra in required():
        if extra is None:
            yield _dependency(name, bounds)
    lock = Path(__file__).parents[2] / LOCK
    if lock.is_file() and (lock.parent / "pyproject.toml").is_file():
        yield locked(lock.read_text(encoding="utf-8"))


def _dependency(name: str, bounds: str) -> Check:
    found = installed(name)
    if found is not None and within(found, bounds):
        beside = installed("jaxlib") if name == "jax" else None
        return Check(GROUP, name, "ok", found if beside is None else f"{found}, jaxlib {beside}")
    said = f"not installed, expected {bounds}" if found is None else f"{found}, expected {bounds}"
    return Check(GROUP, name, "failed", said, pip_install(f"{name}{bounds}"))


def locked(lock: str) -> Check:
    """How the versions differ from those that the tests run with, for every package of the lock
    that is installed."""
    differing, compared = [], 0
    for name, wanted, marker in _LOCKED.findall(lock):
        found = installed(name)
        if found is None or marker:
            continue
        compared += 1
        if found != wanted:
            differing.append(f"{name} {found} (lock: {wanted})")
    if not differing:
        return Check(
            GROUP, "requirements.lock", "ok", f"{compared} installed packages are as in it"
        )
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    said = f"{len(differing)} of {compared} differ: {', '.join(differing[:SHOWN])}{more}"
    advice = pip_install("--require-hashes", "-r", LOCK)
    return Check(GROUP, LOCK, "note", said, advice)
