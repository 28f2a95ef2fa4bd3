"""Parts that are installed on demand: what each is for, and the command that installs it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ctrak_jax.doctor.checks import Check
from ctrak_jax.doctor.versions import Requirement, installed, required, within
from ctrak_jax.errors import UsageError, pip_install

GROUP = "optional parts"

PURPOSES = {
    "gpu": "an NVIDIA GPU",
    "tpu": "a TPU",
    "tpu-plan": "ctrak plan without a TPU",
    "diffusers": "a second implementation in the tests",
    "avatars": "ctrak data avatars",
    "parquet": "data sets in Parquet files",
    "docs": "the site",
    "bench": "the peers of benchmarks.peers",
    "dev": "the tests",
}
"""Every optional part of the package, and what it is for."""
STAND_FOR = {"gpu": ("jax-cuda12-plugin", "jax-cuda13-plugin"), "tpu": ("libtpu",)}
"""Parts that ask for JAX itself: what only they bring, in one of these forms."""


def checks() -> Iterator[Check]:
    """Every optional part, and CLIP's vocabulary."""
    wanted = required()
    for part, purpose in PURPOSES.items():
        yield _part(part, purpose, [one for one in wanted if one.extra == part])
    yield _vocabulary()


def _part(part: str, purpose: str, wanted: list[Requirement]) -> Check:
    advice = pip_install(f"ctrak-jax[{part}]")
    if part == "tpu-plan" and (place := _file(_libtpu)):
        return Check(GROUP, part, "ok", f"{purpose}: {place}")
    if names := STAND_FOR.get(part):
        there = [f"{name} {found}" for name in names if (found := installed(name))]
        if there:
            return Check(GROUP, part, "ok", f"{purpose}: {', '.join(there)}")
        return Check(GROUP, part, "note", f"{purpose}: not installed", advice)
    found = {one.name: installed(one.name) for one in wanted}
    lacking = [name for name, there in found.items() if there is None]
    if lacking:
        said = "not installed" if len(lacking) == len(found) else f"lacks {', '.join(lacking)}"
        return Check(GROUP, part, "note", f"{purpose}: {said}", advice)
    off = [
        f"{name} {found[name]}, expected {bounds}"
        for name, bounds, _ in wanted
        if not within(found[name] or "", bounds)
    ]
    if off:
        return Check(GROUP, part, "note", f"{purpose}: {'; '.join(off)}", advice)
    said = ", ".join(f"{name} {there}" for name, there in found.items())
    return Check(GROUP, part, "ok", f"{purpose}: {said}")


def _vocabulary() -> Check:
    from ctrak_jax.models.tokenizers import vocabulary

    purpose, place = "a text-to-image model trained here", _file(vocabulary.library)
    if place is not None:
        return Check(GROUP, "vocabulary", "ok", f"{purpose}: {place}")
    advice = pip_install("--no-deps", "open-clip-torch")
    return Check(GROUP, "vocabulary", "note", f"{purpose}: not installed", advice)


def _libtpu() -> Path:
    from ctrak_jax.plan import chips

    return chips.library()


def _file(library: Callable[[], Path]) -> Path | None:
    """Where a library is, if it is anywhere."""
    try:
        return library()
    except UsageError:
        return None
