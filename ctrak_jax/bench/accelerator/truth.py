"""Features in float64 on the host, by the definitions: the loss is written out and differentiated,
equations (2.1), (2.4) and (2.6), and the inversion walks step by step, equations (4.1) and
(4.3)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax.schedule import Level
from ctrak_jax.trajectory import Grid

Eps = Callable[[Any, Any, Any, Any], Any]


def gradients(
    eps: Eps,
    params: Any,
    levels: Level,
    grid: Grid,
    x0: np.ndarray,
    cond: np.ndarray,
    negative: np.ndarray,
    guidance: float,
    loss: str,
) -> np.ndarray:
    """The gradient of one sample, each timestep's of norm one, summed: float64, flat.

    Args:
        eps: the prediction, which must compute in the type it is given.
        params: a dict of arrays, which are differentiated.
        levels: shares of the clean image and of the noise, by timestep.
        negative: what the inversion is guided against; for ``slider`` the condition without the
            concept, and the inversion is guided against zeros.
        loss: ``dps`` or ``slider``.
    """
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        params, x0, cond, negative = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a, np.float64)), (params, x0, cond, negative)
        )
        signal, sigma = (jnp.asarray(np.asarray(part, np.float64)) for part in levels)
        against = negative if loss == "dps" else jnp.zeros_like(negative)

        @jax.jit
        def step(x: Any, t: Any, t_next: Any) -> Any:
            wanted, other = eps(params, x, t, cond), eps(params, x, t, against)
            e = other + guidance * (wanted - other)
            x0_hat = (x - sigma[t] * e) / signal[t]
            return signal[t_next] * x0_hat + sigma[t_next] * e

        def shift(x: Any, t: Any) -> Any:
            if loss == "slider":
                return eps(params, x, t, cond) - eps(params, x, t, negative)

            def error(x: Any) -> Any:
                e = eps(params, x, t, cond)
                return jnp.mean(((x - sigma[t] * e) / signal[t] - x0) ** 2)

            return jax.grad(error)(x)

        @jax.jit
        def at(x: Any, t: Any) -> Any:
            target = eps(params, x, t, cond) + shift(x, t)
            found = jax.grad(lambda p: jnp.mean((target - eps(p, x, t, cond)) ** 2))(params)
            flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(found)])
            return flat / jnp.linalg.norm(flat)

        x, total = x0, np.zeros(())
        for t, t_next in zip(grid.times, grid.times[1:], strict=False):
            x = step(x, t, t_next)
            if t_next in grid.recorded:
                total = total + np.asarray(at(x, t_next))
            if t_next == grid.recorded[-1]:
                break
        return total
