"""What a traced program takes, without compiling it: matrix FLOPs, and memory by the lives of its
arrays.

An array lives from the operation that makes it to the last that reads it; what a compiler computes
where it is read (elementwise results that are read once, other shapes and dtypes of an array) takes
no memory. Loops take one turn's memory and every turn's FLOPs.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

PASSES = {jax.lax.Precision.HIGHEST: 6, jax.lax.Precision.HIGH: 3}
"""bfloat16 passes of a product of float32 arrays; one by default."""
VIEWS = frozenset(
    ["broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "iota", "name"]
) | {"reduce_precision", "reshape", "squeeze", "transpose"}
"""Computed wherever they are read."""
PARTS = frozenset(("pad", "slice", "split"))
KEPT = frozenset(
    ["concatenate", "cond", "conv_general_dilated", "cumsum", "dot_general", "dynamic_slice"]
) | {"dynamic_update_slice", "gather", "reduce_max", "reduce_sum", "scan", "scatter-add", "while"}
"""Results in memory of their own; of all else those that are read more than once."""


class Operation(NamedTuple):
    """One operation, with its arrays by number; an inner program runs ``turns`` times."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: Mapping[str, Any]
    inner: tuple["TracedProgram", ...] = ()
    turns: int = 1


class TracedProgram(NamedTuple):
    """Operations in order, the shapes of all arrays by number, and which of them are given and
    asked for."""

    operations: list[Operation]
    shapes: list[Any]
    given: tuple[int, ...]
    asked: tuple[int, ...]


class Work(NamedTuple):
    """Of matrix products: FLOPs, the same in bfloat16 passes, and bytes of the weights that they
    read."""

    flops: float
    passes: float
    bytes: float


def traced(fn: Callable[..., Any], *arguments: Any) -> TracedProgram:
    """The program of a function of arrays of these shapes."""
    return _program(jax.make_jaxpr(fn)(*arguments).jaxpr)


def _program(jaxpr: Any) -> TracedProgram:
    shapes: list[Any] = []
    operations: list[Operation] = []

    def new(var: Any) -> int:
        shapes.append(var.aval)
        return len(shapes) - 1

    def run(jaxpr: Any, numbers: dict[Any, int]) -> list[int]:
        """Add the operations; calls of other programs are taken in."""

        def number(atom: Any) -> int:
            return new(atom) if isinstance(atom, core.Literal) else numbers[atom]

        for var in jaxpr.constvars:
            numbers.setdefault(var, new(var))
        for eqn in jaxpr.eqns:
            inputs = tuple(map(number, eqn.invars))
            called = _called(eqn)
            if called is not None:
                inner = dict(zip(called.invars, inputs, strict=True))
                numbers |= zip(eqn.outvars, run(called, inner), strict=True)
                continue
            outputs = tuple(map(new, eqn.outvars))
            numbers |= zip(eqn.outvars, outputs, strict=True)
            bodies = tuple(_program(body) for body in _bodies(eqn))
            turns = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
            name = eqn.primitive.name
            operations.append(Operation(name, inputs, outputs, eqn.params, bodies, turns))
        return list(map(number, jaxpr.outvars))

    numbers = {var: new(var) for var in (*jaxpr.invars, *jaxpr.constvars)}
    asked = run(jaxpr, dict(numbers))
    given = tuple(numbers[var] for var in (*jaxpr.invars, *jaxpr.constvars))
    return TracedProgram(operations, shapes, given, tuple(asked))


CALLS = ("jit", "pjit", "checkpoint", "remat2", "closed_call", "custom_jvp_call", "custom_vjp_call")


def _called(eqn: Any) -> Any:
    if eqn.primitive.name not in CALLS:
        return None
    found = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return getattr(found, "jaxpr", found)


def _bodies(eqn: Any) -> Iterator[Any]:
    if eqn.primitive.name in ("scan", "while", "cond"):
        for value in eqn.params.values():
            for each in value if isinstance(value, tuple) else (value,):
                if hasattr(each, "jaxpr"):
                    yield each.jaxpr


def size(shape: Any) -> int:
    """Bytes of an array."""
    return math.prod(shape.shape) * shape.dtype.itemsize if hasattr(shape, "shape") else 0


def work(program: TracedProgram, weights: Collection[int]) -> Work:
    """The matrix products of a program, of which these given arrays are the weights."""
    total, known = dict.fromkeys(Work._fields, 0.0), set(weights)
    for operation in program.operations:
        if operation.name in VIEWS and known.intersection(operation.inputs):
            known.update(operation.outputs)
        for inner in operation.inner:
            pairs = zip(inner.given, operation.inputs, strict=False)
            found = work(inner, [array for array, outer in pairs if outer in known])
            for name, value in found._asdict().items():
                total[name] += operation.turns * value
        if operation.name in ("dot_general", "conv_general_dilated"):
            arrays = [program.shapes[i] for i in (*operation.inputs, *operation.outputs)]
            flops = _flops(operation, *arrays[:3])
            wide = all(np.dtype(array.dtype).itemsize >= 4 for array in arrays[:2])
            passes = PASSES.get(_precision(operation.params), 1) if wide else 1
            read = sum(size(program.shapes[i]) for i in operation.inputs if i in known)
            total["flops"] += flops
            total["passes"] += passes * flops
            total["bytes"] += read
    return Work(**total)


def _precision(params: Mapping[str, Any]) -> Any:
    found = params.get("precision")
    return found[0] if isinstance(found, tuple) else found


def _flops(operation: Operation, left: Any, right: Any, out: Any) -> float:
    if operation.name == "dot_general":
        ((contracted, _), _) = operation.params["dimension_numbers"]
        return 2.0 * math.prod(out.shape) * math.prod(left.shape[axis] for axis in contracted)
    numbers = operation.params["dimension_numbers"]
    return 2.0 * math.prod(out.shape) * math.prod(right.shape) / right.shape[numbers.rhs_spec[0]]


def temporaries(program: TracedProgram) -> int:
    """Bytes of the arrays that live at once, at most, without what is given: in the order in which
    operations were traced or in that of :func:`_order`, whichever takes less."""
    return min(_most(program, order) for order in (program.operations, _order(program)))


def _most(program: TracedProgram, order: Sequence[Operation]) -> int:
    sources = _sources(program)
    last: dict[int, int] = {}
    for place, operation in enumerate(order):
        last |= dict.fromkeys(_read(operation.inputs, sources), place)
    last |= dict.fromkeys(_read(program.asked, sources), len(order))
    ends: dict[int, list[int]] = {}
    for array, place in last.items():
        ends.setdefault(place, []).append(array)
    sizes: dict[int, int] = {}
    living = most = 0
    for place, operation in enumerate(order):
        for array in operation.outputs:
            if sources[array] == {array} and array in last:
                sizes[array] = size(program.shapes[array])
                living += sizes[array]
        inner = max(map(temporaries, operation.inner), default=0)
        most = max(most, living + inner)
        living -= sum(sizes.pop(array, 0) for array in ends.get(place, ()))
    return most


def _order(program: TracedProgram) -> list[Operation]:
    """The operations, each as late as what reads it allows. Of what an operation reads, the array
    that was traced last goes first: a cotangent, before the activations that are computed again
    for it."""
    makers = {i: place for place, o in enumerate(program.operations) for i in o.outputs}
    reads = [{makers[i] for i in o.inputs if i in makers} for o in program.operations]
    # A part of an array, or another shape of it, is as old as the array.
    age: list[int] = []
    for place, operation in enumerate(program.operations):
        same = operation.name in VIEWS | PARTS and reads[place]
        age.append(max(age[each] for each in reads[place]) if same else place)
    found: list[Operation] = []
    done: set[int] = set()
    for asked in program.asked:
        stack = [(makers[asked], False)] if asked in makers else []
        while stack:
            place, ready = stack.pop()
            if place in done:
                continue
            if ready:
                done.add(place)
                found.append(program.operations[place])
                continue
            stack.append((place, True))
            stack += [(each, False) for each in sorted(reads[place] - done, key=age.__getitem__)]
    return found


def _read(arrays: Iterable[int], sources: Mapping[int, set[int]]) -> set[int]:
    return {source for array in arrays for source in sources[array]}


def _sources(program: TracedProgram) -> dict[int, set[int]]:
    """The arrays in memory that every array is read from: itself, or those that it is computed
    from where it is read."""
    uses = Counter(i for operation in program.operations for i in operation.inputs)
    uses.update(program.asked)
    found, shapes = {array: {array} for array in range(len(program.shapes))}, program.shapes
    for operation in program.operations:
        for array in operation.outputs:
            read = _read(operation.inputs, found)
            once = operation.name not in KEPT and uses[array] <= 1
            # A sum of many arrays is one array as soon as it can be.
            lean = sum(size(shapes[each]) for each in read) < 3 * size(shapes[array])
            if operation.name in VIEWS or (once and lean):
                found[array] = read
    return found


def loop_copies(program: TracedProgram) -> dict[tuple[int, str], int]:
    """What is given and converted to another dtype within a loop: a compiler converts it once and
    keeps the copy over the loop. The given array and the dtype -> bytes of the copy."""
    return {key: copy.size for key, copy in _copies(program).items() if copy.looped}


class ConvertedCopy(NamedTuple):
    """What is given, in another dtype: bytes, and whether it is converted within a loop."""

    size: int
    looped: bool


def _copies(program: TracedProgram) -> dict[tuple[int, str], ConvertedCopy]:
    roots = {array: array for array in program.given}
    found: dict[tuple[int, str], ConvertedCopy] = {}

    def note(array: int, dtype: str, size: int, looped: bool) -> None:
        if array in roots:
            key = roots[array], dtype
            found[key] = ConvertedCopy(size, looped or (key in found and found[key].looped))

    for operation in program.operations:
        if operation.name == "convert_element_type":
            out = program.shapes[operation.outputs[0]]
            note(operation.inputs[0], str(out.dtype), size(out), False)
        elif operation.name in VIEWS and operation.inputs and operation.inputs[0] in roots:
            roots[operation.outputs[0]] = roots[operation.inputs[0]]
        for inner in operation.inner if operation.name == "scan" else ():
            constants = dict(zip(inner.given, operation.inputs, strict=False))
            kept = set(inner.given[: operation.params["num_consts"]])
            for (array, dtype), copy in _copies(inner).items():
                if array in kept:
                    note(constants[array], dtype, copy.size, True)
    return found
