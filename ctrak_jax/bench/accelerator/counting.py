"""FLOPs of matrix products and convolutions of a traced function, loops counted as often as they
run. A compiled program for a GPU calls libraries, whose work its text does not show."""

import math
from typing import Any


def matrix_flops(jaxpr: Any) -> float:
    """Of a jaxpr, 2 per multiplication. Kernels are not looked into.

    Raises:
        ValueError: a product in a loop whose number of rounds is not known.
    """
    return sum((_flops(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns), 0.0)


def _flops(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        channels = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * equation.outvars[0].aval.size * kernel.size / channels
    if name == "pallas_call":
        return 0.0
    inner = [matrix_flops(part) for part in _inside(params)]
    if name == "scan":
        return params["length"] * sum(inner, 0.0)
    if name == "while" and sum(inner):
        raise ValueError("a loop with products whose number of rounds is not known")
    return max(inner, default=0.0) if name == "cond" else sum(inner, 0.0)


def _inside(params: dict[str, Any]) -> list[Any]:
    groups = [value if isinstance(value, tuple) else (value,) for value in params.values()]
    return [v for group in groups for v in group if hasattr(getattr(v, "jaxpr", v), "eqns")]
