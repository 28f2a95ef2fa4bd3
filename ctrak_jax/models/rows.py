"""Batched linear layers as one matrix product, for training.

Under ``vmap`` a layer of one sample maps rows [batch, row, in]; the way back to its kernel then
contracts over two axes, and XLA's CPU backend first writes the cotangent transposed: 34 ms for a
layer of 8,192 rows, 128 to 680, where the same product over one axis of 8,192 takes 10 (jax
0.10.2, 2 cores). Per-sample gradients have no such sum over the batch and do without.
"""

from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
from jax.custom_batching import custom_vmap

from ctrak_jax.typing import Array


@custom_vmap
def _product(rows: Array, kernel: Array) -> Array:
    return rows @ kernel


@_product.def_vmap
def _batched(size: int, batched: list[bool], rows: Array, kernel: Array) -> tuple[Array, bool]:
    if batched != [True, False]:
        raise NotImplementedError("rows are batched and the kernel is shared, once.")
    flat = rows.reshape(-1, rows.shape[-1]) @ kernel
    return flat.reshape(*rows.shape[:-1], -1), True


def _dense(call: Any, args: Any, kwargs: Any, context: Any) -> Array:
    module = context.module
    if type(module) is not nn.Dense or context.method_name != "__call__":
        return call(*args, **kwargs)
    params = module.variables["params"]
    product = _product(args[0], params["kernel"])
    if not module.use_bias:
        return product
    return product + params["bias"].reshape((1,) * (product.ndim - 1) + (-1,))


def one_product_a_layer() -> AbstractContextManager[None]:
    """Within it every ``nn.Dense`` of a network that is vmapped over samples, and not over its
    parameters, is one product over the rows of all samples; float32."""
    return nn.intercept_methods(_dense)
