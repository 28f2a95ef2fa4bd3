"""What the Pallas kernels share: the gradients and devices they serve."""

from typing import Any

import jax
import jax.numpy as jnp

HOPPER = "9.0"
"""Compute capability of H100 and H200, the only GPUs with the instruction of the GPU kernel
(wgmma)."""
LEAST_COLUMNS = 2048
"""Columns of R from which the GPU kernel is preferred: of fewer it makes as many and drops some."""


def compute_capability() -> str | None:
    """Of the GPU in use; None without one."""
    if jax.default_backend() != "gpu":
        return None
    return getattr(jax.local_devices()[0], "compute_capability", None)


def serves(kind: str, dtype: Any) -> bool:
    """Do the kernels make this kind for gradients of this type?"""
    return kind == "rademacher" and dtype in (jnp.float32, jnp.bfloat16)


def pays_on_gpu(k: int, capability: str | None) -> bool:
    """Is the GPU kernel to be preferred to plain JAX there?"""
    return capability == HOPPER and k >= LEAST_COLUMNS


def refuse_others(kind: str, dtype: Any) -> None:
    """Raise NotImplementedError for what the kernels do not serve."""
    if not serves(kind, dtype):
        raise NotImplementedError(
            f"this kernel makes rademacher signs for float32 or bfloat16 gradients, got {kind} for "
            f"{dtype}; use Projection.implementation='xla'."
        )


def refuse_gpu(capability: str | None) -> None:
    """Raise NotImplementedError on a GPU that the GPU kernel does not serve."""
    if capability not in (None, HOPPER):
        raise NotImplementedError(
            f"this kernel needs a GPU of compute capability {HOPPER} (H100, H200), got "
            f"{capability}; use Projection.implementation='auto' or 'xla'."
        )
