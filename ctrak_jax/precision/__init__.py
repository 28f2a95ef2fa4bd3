"""With which precision the products of the method run: every choice of it, in one place.

What a product of two float32 arrays is depends on the device and on its precision level:

===========  =================================  =============================  =======
level        TPU                                NVIDIA GPU (Ampere and later)  CPU
===========  =================================  =============================  =======
``default``  1 bfloat16 pass, error about 2e-3  TF32, 3e-4                     float32
``high``     3 bfloat16 passes, 2e-5            TF32                           float32
``highest``  6 bfloat16 passes, float32         float32, 1e-6                  float32
===========  =================================  =============================  =======

A GPU has no form of its own for ``high``. Products of two bfloat16 arrays are exact in one pass
at any level; all sums are float32.

:data:`POLICIES` says which level each group of products has, for every value of
``run.precision``. The products of the mathematics (norms of gradients, projection, Gram, solve,
scores) are float32 under every policy: :data:`EXACT`. They decide over what is left when nearly
equal numbers are subtracted, and take little of the time. Docs: docs/reference/precision.md.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple, TypeVar, cast

import jax

Fn = TypeVar("Fn", bound=Callable[..., Any])
Level = Literal["default", "high", "highest"]

EXACT = jax.lax.Precision.HIGHEST
"""Of the products of the mathematics, on every device."""


class MatmulPolicy(NamedTuple):
    """The levels of the products of a network; None leaves them to the caller's context
    (``jax.default_matmul_precision``).

    Attributes:
        gradients: passes forward and back along a path, and the sums over its steps that make a
            parameter's gradient of them.
        differences: passes whose small differences count: inversion and sampling, which guidance
            steers by a multiple of a difference, the difference that is a concept's target shift,
            and the outputs that models are compared by.
    """

    gradients: Level | None = None
    differences: Level | None = None

    @property
    def mixed(self) -> bool:
        """Are differences taken by other programs than gradients?"""
        return self.gradients != self.differences


GIVEN = MatmulPolicy()
"""No level of our own."""

POLICIES: dict[str, dict[Level, MatmulPolicy]] = {
    "cpu": dict.fromkeys(("default", "high", "highest"), GIVEN),
    "gpu": {
        "default": MatmulPolicy("default", "default"),
        "high": MatmulPolicy("default", "highest"),
        "highest": MatmulPolicy("highest", "highest"),
    },
    "tpu": {
        "default": MatmulPolicy("high", "high"),
        "high": MatmulPolicy("high", "highest"),
        "highest": MatmulPolicy("highest", "highest"),
    },
}
"""Backend -> ``run.precision`` -> the levels.

``default`` is the fastest that keeps features and rankings: on an H200 the features' cosine with
float32 ones was 0.9999996 in TF32, at twice the speed. One bfloat16 pass changes the ten highest
samples of every fourth question, whose candidates' features come down to a cosine of 0.993
(``benchmarks.precision``). On a GPU ``high`` spends float32 where the error came from.
"""

MEANINGS: dict[str, dict[Level, str]] = {
    "cpu": dict.fromkeys(("default", "high", "highest"), "float32"),
    "gpu": {"default": "TF32", "high": "TF32", "highest": "float32"},
    "tpu": {
        "default": "1 bfloat16 pass",
        "high": "3 bfloat16 passes",
        "highest": "6 bfloat16 passes",
    },
}
"""Backend -> level -> what a product of float32 arrays is there."""


def policy_of(wanted: Level, backend: str | None = None) -> MatmulPolicy:
    """The levels of a ``run.precision`` on a backend (default: this process's). One that is in no
    table is treated as a TPU: every level then means what the backend makes of it."""
    return POLICIES.get(backend or jax.default_backend(), POLICIES["tpu"])[wanted]


def described(wanted: Level, backend: str | None = None) -> dict[str, str]:
    """What the products of float32 arrays are under a ``run.precision``, for logs and manifests."""
    backend = backend or jax.default_backend()
    meanings, levels = MEANINGS.get(backend, {}), policy_of(wanted, backend)
    groups: dict[str, Level] = {
        "gradients": levels.gradients or "default",
        "differences": levels.differences or "default",
        "mathematics": "highest",
    }
    found = {name: meanings.get(level, level) for name, level in groups.items()}
    return {"setting": wanted, **found}


def computing(fn: Fn, level: Level | None) -> Fn:
    """``fn`` with all its products, those of its derivatives too, at one level: a derivative's
    products have the levels of those they come from."""
    if level is None:
        return fn

    @wraps(fn)
    def at_level(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(level):
            return fn(*args, **kwargs)

    return cast(Fn, at_level)
