"""What the Pallas kernels share: the gradients they serve, and how these meet the signs."""

from typing import Any

import jax.numpy as jnp

from ctrak_jax.typing import Array


def serves(kind: str, dtype: Any) -> bool:
    """Do the kernels make this kind for gradients of this type?"""
    return kind == "rademacher" and dtype in (jnp.float32, jnp.bfloat16)


def refuse_others(kind: str, dtype: Any) -> None:
    """Raise NotImplementedError for what the kernels do not serve."""
    if not serves(kind, dtype):
        raise NotImplementedError(
            f"this kernel makes rademacher signs for float32 or bfloat16 gradients, got {kind} for "
            f"{dtype}; use Projection.implementation='xla'."
        )


def bfloat16_parts(g: Array) -> list[Array]:
    """bfloat16 arrays whose sum is g, smallest first: float32 gradients lose nothing in three parts
    and take half the passes of the highest precision, since signs are exact in bfloat16."""
    if g.dtype == jnp.bfloat16:
        return [g]
    parts = []
    for _ in range(3):
        part = g.astype(jnp.bfloat16)
        parts.append(part)
        g = g - part.astype(jnp.float32)
    return parts[::-1]
