"""Batched linear layers as one matrix product, for training on a CPU.

Under ``vmap`` a layer of one sample maps rows [batch, row, in]; the backward pass to its kernel
then contracts over two axes, and XLA's CPU backend first writes the cotangent transposed: 34 ms for
a layer of 8,192 rows, 128 to 680, where the same product over one axis of 8,192 takes 10 (jax
0.10.2, 2 cores). Per-sample gradients have no such sum over the batch and do without.
"""

from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Float

from ctrak_jax.typing import Array


@custom_vmap
def _product(rows: Float[Array, "*row in"], kernel: Float[Array, "in out"]) -> Array:
    return rows @ kernel


@_product.def_vmap
def _batched(_size: int, batched: list[bool], rows: Array, kernel: Array) -> tuple[Array, bool]:
    if batched != [True, False]:
        raise NotImplementedError(
            f"one_product_a_layer: got rows and kernel batched={batched}, expected [True, False]; "
            "vmap over parameters outside of it."
        )
    flat = rows.reshape(-1, rows.shape[-1]) @ kernel
    return flat.reshape(*rows.shape[:-1], kernel.shape[-1]), True


def _plain(module: nn.Module) -> bool:
    """Is it a linear layer that does what ``rows @ kernel + bias`` does in float32?"""
    return (
        type(module) is nn.Dense
        and not module.is_initializing()
        and module.dtype in (None, jnp.float32)
        and module.precision is None
        and module.dot_general is None
        and module.dot_general_cls is None
    )


def _dense(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    if context.method_name != "__call__" or len(args) != 1 or not _plain(module):
        return call(*args, **kwargs)
    product = _product(args[0], module.get_variable("params", "kernel"))
    if not module.use_bias:
        return product
    bias = module.get_variable("params", "bias")
    return product + bias.reshape((1,) * (product.ndim - 1) + (-1,))


def one_product_a_layer() -> AbstractContextManager[None]:
    """Within it every ``nn.Dense`` of a network that is vmapped over samples, and not over its
    parameters, is one product over the rows of all samples. The vmap must stand inside the
    derivative and reach every layer: JAX cannot transpose what is left of another one."""
    return nn.intercept_methods(_dense)
