"""What a compiled program does, read from its text: matrix FLOPs, traffic with the device's memory,
collectives, each as often as it runs.

XLA's own ``cost_analysis`` counts the body of a loop once, however often it runs; here a body
counts as many times as its condition lets it.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
PASSES = {"highest": 6, "high": 3}
"""bfloat16 passes of the matrix unit that a float32 product takes at a precision; 1 by default."""
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "optimization-barrier"),
    *("after-all", "partition-id", "replica-id"),
    *("while", "call", "conditional", "async-start", "async-update"),
)
"""Instructions that move nothing, or whose computations are visited for it."""
_FREE_TARGETS = ("AllocateBuffer", "ConcatBitcast")
_KERNEL = "tpu_custom_call"
_SOFTMAX = "online-softmax"
"""The name of a kernel that the compiler itself puts in place of softmax(scores) values, where it
recognises them: operands [..., query, key] and [..., key, width]."""


class Leaf(NamedTuple):
    """An array: its extents, its bytes without tile padding, and whether it lies in the device's
    memory (and not in the core's own)."""

    dims: tuple[int, ...]
    bytes: float
    far: bool


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    leaves: list[Leaf]
    op: str
    operands: list[str]
    inner: str
    attributes: str
    root: bool


class Collective(NamedTuple):
    """How often one kind of collective runs, and the bytes that a device sends or receives by all
    of them, whichever is more."""

    calls: int
    bytes: float


@dataclass
class Cost:
    """What one device does in one call.

    Attributes:
        flops: of matrix products and convolutions, 2 per multiplication.
        passes: the same in bfloat16 passes of the matrix unit: more at a higher precision (inside
            of a kernel none is known, and one pass is counted).
        bytes: read from and written to the device's memory.
        kernels: calls of custom kernels, whose FLOPs are in none of these.
        collectives: by kind.
    """

    flops: float = 0.0
    passes: float = 0.0
    bytes: float = 0.0
    kernels: int = 0
    collectives: dict[str, Collective] = field(default_factory=dict)


_Module = dict[str, list[Instruction]]
"""Computations by name."""


def cost(text: str) -> Cost:
    """The cost of a program from ``compiled.as_text()``.

    Raises:
        ValueError: a loop whose number of rounds cannot be read.
    """
    entry = re.search(r"^ENTRY %([\w.\-]+)", text, re.MULTILINE)
    assert entry is not None
    total = Cost()
    _visit(_parse(text), entry[1], 1, total, fused=False)
    return total


def _visit(module: _Module, name: str, times: int, total: Cost, *, fused: bool) -> None:
    leaves = {i.name: i.leaves for i in module[name]}
    for i in module[name]:
        flops, passes, kind = 0.0, 1, i.op.removesuffix("-start")
        if i.op in ("convolution", "dot"):
            flops = (_dot if i.op == "dot" else _convolution)(i, leaves)
            passes = _passes(i, leaves)
        elif _target(i) == _KERNEL and f'op_name="{_SOFTMAX}"' in i.attributes:
            scores, values = (leaf.dims for leaf in _operand_leaves(i, leaves))
            flops = 2.0 * math.prod(scores) * values[-1]
        elif _target(i) == _KERNEL:
            total.kernels += times
        elif kind in COLLECTIVES and not i.op.endswith("-done"):
            parts = (_operand_leaves(i, leaves), _results(i))
            moved = max(sum(leaf.bytes for leaf in part) for part in parts)
            calls, so_far = total.collectives.get(kind, Collective(0, 0.0))
            total.collectives[kind] = Collective(calls + times, so_far + times * moved)
        elif i.op == "while":
            rounds = times * _rounds(module, i)
            _visit(module, _called(i, "body")[0], rounds, total, fused=fused)
        elif i.op in ("fusion", "call", "async-start", "conditional"):
            for called in _called(i, "calls|to_apply|branch_computations"):
                _visit(module, called, times, total, fused=fused or i.op == "fusion")
        total.flops += times * flops
        total.passes += times * flops * passes
        if not fused:
            total.bytes += times * _traffic(module, i, leaves)


def _rounds(module: _Module, loop: Instruction) -> int:
    """Rounds of a loop: what the compiler says, or else the one bound its condition counts up to
    (JAX's loops count from 0 by 1)."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    condition = module[_called(loop, "condition")[0]]
    bounds = [int(i.inner) for i in condition if i.op == "constant" and i.inner.isdigit()]
    if len(bounds) != 1:
        raise ValueError(f"loop {loop.name}: found the bounds {bounds} in its condition, not one.")
    return bounds[0]


def _traffic(module: _Module, i: Instruction, leaves: dict[str, list[Leaf]]) -> float:
    """Bytes that an instruction reads from and writes to the device's memory."""
    if i.op in _FREE or i.op.endswith("-done") or _target(i) in _FREE_TARGETS:
        return 0.0
    if i.op in ("copy-start", "slice-start"):  # (from, to, context), or the other way round
        return i.leaves[1].bytes * (i.leaves[0].far + i.leaves[1].far)
    operands = [leaves[name] for name in i.operands if name in leaves]
    if i.op in ("slice", "dynamic-slice"):
        return i.leaves[0].bytes * (operands[0][0].far + i.leaves[0].far)
    if i.op == "dynamic-update-slice":
        update = operands[1][0]
        return update.bytes * (update.far + i.leaves[0].far)
    if i.op == "fusion":
        inside = module[_called(i, "calls")[0]]
        return _fusion_traffic(inside, operands, i.leaves)
    return _far_bytes(_results(i)) + sum(map(_far_bytes, operands))


def _fusion_traffic(
    inside: list[Instruction], operands: list[list[Leaf]], results: list[Leaf]
) -> float:
    """A fusion reads its operands and writes its results, but of what it slices or updates in
    place only the slice."""
    by_name = {i.name: i for i in inside}

    def source(name: str) -> Instruction:
        found = by_name[name]
        while found.op == "bitcast":
            found = by_name[found.operands[0]]
        return found

    uses: dict[str, list[tuple[Instruction, int]]] = {}
    for i in inside:
        if i.op != "bitcast":
            for place, name in enumerate(i.operands):
                uses.setdefault(source(name).name, []).append((i, place))

    total = 0.0
    for parameter in (i for i in inside if i.op == "parameter"):
        operand = operands[int(parameter.inner)]
        whole, parts = _far_bytes(operand), 0.0
        for user, place in uses.get(parameter.name, []):
            if place == 0 and user.op in ("slice", "dynamic-slice"):
                parts += user.leaves[0].bytes
            elif not (place == 0 and user.op == "dynamic-update-slice"):
                parts = whole
                break
        total += min(whole, parts)

    root = source(next(i.name for i in inside if i.root))
    written = [source(name) for name in root.operands] if root.op == "tuple" else [root]
    for leaf, producer in zip(results, written, strict=False):
        if leaf.far and producer.op == "dynamic-update-slice":
            total += by_name[producer.operands[1]].leaves[0].bytes
        elif leaf.far:
            total += leaf.bytes
    return total


def _passes(i: Instruction, leaves: dict[str, list[Leaf]]) -> int:
    """bfloat16 passes of a product: a precision asks for more of them where an operand has more
    digits than bfloat16."""
    precision = re.search(r"operand_precision=\{(\w+)", i.attributes)
    wide = any(leaf.bytes > 2 * math.prod(leaf.dims) for leaf in _operand_leaves(i, leaves))
    return PASSES.get(precision[1], 1) if precision and wide else 1


def _dot(i: Instruction, leaves: dict[str, list[Leaf]]) -> float:
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.attributes)
    axes = re.findall(r"\d+", contracted[1]) if contracted else []
    left = leaves[i.operands[0]][0].dims
    return 2.0 * math.prod(i.leaves[0].dims) * math.prod(left[int(a)] for a in axes)


def _convolution(i: Instruction, leaves: dict[str, list[Leaf]]) -> float:
    """FLOPs of a convolution, the positions where its window meets padding or the holes of a
    dilated input left out: a TPU's batched matrix products are convolutions made of these."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.attributes)
    assert labels is not None
    arrays = (*_operand_leaves(i, leaves), i.leaves[0])
    left, right, out = (
        dict(zip(names, array.dims, strict=True))
        for names, array in zip(labels.groups(), arrays, strict=True)
    )
    given_window = re.search(r"window=\{([^}]*)\}", i.attributes)
    window = dict(re.findall(r"(\w+)=([\w-]+)", given_window[1] if given_window else ""))

    def given(name: str, place: int, default: str) -> str:
        return window[name].split("x")[place] if name in window else default

    pairs = 1.0
    for place, axis in enumerate(sorted(name for name in out if name.isdigit())):
        low = int(given("pad", place, "0_0").split("_")[0])
        dilated = int(given("lhs_dilate", place, "1"))
        stride = int(given("stride", place, "1"))
        apart = int(given("rhs_dilate", place, "1"))
        starts = range(-low, right[axis] * apart - low, apart)
        pairs *= sum(_met(start, stride, out[axis], dilated, left[axis]) for start in starts)
    return 2.0 * out["b"] * out["f"] * right["i"] * pairs


def _met(start: int, stride: int, count: int, dilated: int, inputs: int) -> int:
    """How many of the positions ``start + stride * [0, count)`` are ones of an input, ``dilated *
    [0, inputs)``."""
    shared = math.gcd(stride, dilated)
    if start % shared:
        return 0
    step, holes = stride // shared, dilated // shared
    first = -start // shared * pow(step, -1, holes) % holes
    # Position number first + holes * m is input number place + step * m.
    place = (start + stride * first) // dilated
    lowest = max(0, -(place // step))
    highest = min((count - 1 - first) // holes, (inputs - 1 - place) // step)
    return max(0, highest - lowest + 1)


def _target(i: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]*)"', i.attributes)
    return found[1] if found else ""


def _called(i: Instruction, names: str) -> list[str]:
    found = re.findall(rf"\b(?:{names})=(\{{[^}}]*\}}|%[\w.\-]+)", i.attributes)
    return [name for part in found for name in re.findall(r"%([\w.\-]+)", part)]


def _operand_leaves(i: Instruction, leaves: dict[str, list[Leaf]]) -> list[Leaf]:
    return [leaf for name in i.operands for leaf in leaves.get(name, [])]


def _results(i: Instruction) -> list[Leaf]:
    """What an instruction puts out; an asynchronous start also lists what goes in."""
    return i.leaves[1:2] if i.op.endswith("-start") and len(i.leaves) > 1 else i.leaves


def _far_bytes(leaves: list[Leaf]) -> float:
    return sum((leaf.bytes for leaf in leaves if leaf.far), 0.0)


def _parse(text: str) -> _Module:
    module: _Module = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        header = re.match(r"(?:ENTRY )?%([\w.\-]+) \(.*\{$", line)
        if header:
            current = module.setdefault(header[1], [])
        elif line.startswith("  ") and " = " in line:
            current.append(_instruction(line.strip()))
    return module


def _instruction(line: str) -> Instruction:
    root = line.startswith("ROOT ")
    name, _, rest = line.removeprefix("ROOT ").partition(" = ")
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inner = rest[opening + 1 : closing]
    leaves, operands = list(_leaves(shape)), re.findall(r"%([\w.\-]+)", inner)
    op, attributes = rest[:opening], rest[closing + 1 :]
    return Instruction(name.lstrip("%"), leaves, op, operands, inner, attributes, root)


def _leaves(shape: str) -> Iterator[Leaf]:
    for kind, dims, layout in re.findall(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?", shape):
        extents = tuple(int(d) for d in dims.split(",") if d)
        bits = re.search(r"\d+", kind)
        width = int(bits[0]) / 8 if bits else float(kind == "pred")
        yield Leaf(extents, width * math.prod(extents), "S(" not in layout)


def _closing(text: str, opening: int) -> int:
    """The place of the parenthesis that closes the one at ``opening``."""
    depth = 0
    for match in re.finditer(r"[()]", text[opening:]):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return opening + match.start()
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}.")
