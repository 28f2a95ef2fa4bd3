"""From a folder of images to a config for it: ``ctrak init``.

What is in the folder (:mod:`ctrak_jax.start.look`); which attributes a model can be conditioned on
(``columns``) and how large its images are (``pictures``); the settings that follow (``rules``, of a
``situation``), how long a run then takes (``costs``), what else to know (``notes``); all of it
together (``proposal``), as YAML (``write``) and printed (``show``).
"""

from ctrak_jax.start.look import Facts as Facts
from ctrak_jax.start.look import look as look
from ctrak_jax.start.proposal import Proposal as Proposal
from ctrak_jax.start.proposal import propose as propose
from ctrak_jax.start.proposal import require_possible as require_possible
from ctrak_jax.start.show import as_json as as_json
from ctrak_jax.start.show import text as text
from ctrak_jax.start.situation import Kind as Kind
from ctrak_jax.start.situation import Machine as Machine
from ctrak_jax.start.write import written as written


def measured(minutes: float) -> Machine:
    """This machine, and how long one waits for a run on it."""
    import os

    import jax

    from ctrak_jax.bench.timing import matmul_peak

    device = jax.local_devices()[0]
    cores = len(os.sched_getaffinity(0))
    name = f"{cores} cores" if device.platform == "cpu" else device.device_kind
    return Machine(name, matmul_peak(device), minutes)
