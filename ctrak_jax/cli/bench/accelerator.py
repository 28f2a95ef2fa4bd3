"""``ctrak bench accelerator``: numbers and throughput on this machine's accelerator."""

from ctrak_jax.bench.accelerator.command import act, declare

__all__ = ["act", "declare"]
