"""Is this installation sound? ``ctrak doctor``.

Versions against what the package asks for and against the lock (:mod:`ctrak_jax.doctor.versions`);
devices, memory, compiled programs and disk (``machine``); parts that are installed on demand
(``parts``); and a self-test with numbers (``self_test``). A check (``checks``) passes, fails with
what to do, or is a note. All of them together are printed by ``show``.
"""

from pathlib import Path

from ctrak_jax.doctor.checks import Check as Check
from ctrak_jax.doctor.show import as_json as as_json
from ctrak_jax.doctor.show import text as text


def examine(place: Path, programs: Path | None) -> list[Check]:
    """Every check.

    Args:
        place: a folder on the disk where results go; a folder is made in it and removed again.
        programs: where compiled programs are kept, or None.
    """
    from ctrak_jax.doctor import machine, parts, self_test, versions

    return [
        *versions.checks(),
        *machine.checks(place, programs),
        *parts.checks(),
        *self_test.checks(place),
    ]
