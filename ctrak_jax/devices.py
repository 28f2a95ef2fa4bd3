"""Devices: every mesh, shard_map, collective and device placement of the package.

Plain functions over a leading sample axis are split over devices; with one they stay as they are.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ctrak_jax import fisher, hosts, meeting
from ctrak_jax.errors import UsageError

HOSTS, SAMPLES, MODEL = "hosts", "samples", "model"


def local_mesh(devices: int | None = None, model: int = 1) -> Mesh:
    """A mesh over the first ``devices`` local devices (all by default).

    Samples are split over all its axes. With ``model`` > 1 there is a second axis, of so many
    devices, and each of them holds a part of the parameters (:func:`parameter_spec`).
    """
    found = jax.local_devices()
    if devices is not None and devices > len(found):
        raise UsageError(f"run.devices={devices}, but this process has {len(found)} device(s).")
    return _mesh(np.array(found[:devices]), model)


def _mesh(found: np.ndarray, model: int) -> Mesh:
    if model == 1:
        return Mesh(found, (SAMPLES,))
    if len(found) % model:
        raise UsageError(
            f"mesh.model={model} does not divide the {len(found)} devices; "
            f"use one of {[n for n in range(1, len(found) + 1) if len(found) % n == 0]}."
        )
    return Mesh(found.reshape(-1, model), (SAMPLES, MODEL))


def topology_mesh(topology: str, model: int = 1) -> Mesh:
    """:func:`local_mesh` over the devices of a TPU topology that need not be there, to compile for.
    libtpu must be found (TPU_LIBRARY_PATH)."""
    # The two cores of a v4 chip work as one device; only its compiler needs the flag.
    given = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        found = topologies.get_topology_desc(topology, "tpu", **given).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(f"--topology {topology}: {reason}.") from None
    return _mesh(np.array(found), model)


def chips_of(mesh: Mesh) -> int:
    """The chips that a topology's devices make up: some generations have two devices a chip."""
    return len({tuple(device.coords) for device in mesh.devices.flat})


def described(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """Shapes and dtypes alone, placed as by :func:`put`: arguments to compile for a mesh with."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        _shardings(tree, mesh, specs),
    )


def put(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """The tree on the devices, placed by a PartitionSpec for all of it, or by a tree of them.

    On one device nothing is said of a mesh: jax 0.10 cannot batch the gradient of a convolution's
    kernel three times (image, concept, timestep) where it is.
    """
    if mesh.size == 1:
        return jax.device_put(tree, mesh.devices.flat[0])
    return jax.device_put(tree, _shardings(tree, mesh, specs))


def put_for_one(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """The tree for work on a single sample: on the first device, or in parts where the parameters
    are."""
    return put(
        tree, mesh if MODEL in mesh.axis_names else Mesh(mesh.devices[:1], mesh.axis_names), specs
    )


def _shardings(tree: Any, mesh: Mesh, specs: Any) -> Any:
    if isinstance(specs, PartitionSpec):
        return jax.tree.map(lambda _: NamedSharding(mesh, specs), tree)
    return jax.tree.map(lambda _, spec: NamedSharding(mesh, spec), tree, specs)


WHOLE = PartitionSpec()


def samples_spec(mesh: Mesh) -> PartitionSpec:
    """The leading axis split over all devices."""
    return PartitionSpec(mesh.axis_names)


def over_samples(
    fn: Callable[[Any, Any], Any], mesh: Mesh, shared: Any = WHOLE
) -> jax.stages.Wrapped:
    """Compile ``fn(shared, batch) -> rows``, split over the samples of ``batch``.

    Every leaf of ``batch`` and of the result leads with the sample axis, a multiple of the number
    of devices. The first argument is placed as ``shared`` says. Samples do not meet: no collectives
    but those of :func:`gathering`.
    """
    if mesh.size == 1:
        return jax.jit(fn)
    split = samples_spec(mesh)
    return jax.jit(
        jax.shard_map(fn, mesh=mesh, in_specs=(shared, split), out_specs=split, check_vma=False)
    )


def parameter_spec(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How a parameter is kept in parts on the ``model`` axis of a mesh: along the first axis that
    divides; vectors, and everything on a mesh without that axis, are whole."""
    parts = dict(mesh.shape).get(MODEL, 1)
    even = [axis for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or len(shape) < 2 or not even:
        return WHOLE
    return PartitionSpec(*[None] * even[0], MODEL)


_CHEAP = {"all_gather", "convert_element_type", "reshape", "transpose", "broadcast_in_dim"}


def gathering(fn: Callable[..., Any], shapes: Any, mesh: Mesh) -> Callable[..., Any]:
    """``fn(params, ...)`` for parameters of which every device may hold a part (ZeRO stage 3).

    A parameter is gathered from the ``model`` axis to its shape in ``shapes`` where ``fn`` uses it,
    and again in the backward pass: no whole copy is kept in between. The devices of the axis work
    on other samples, so no derivative to a parameter in parts may be taken; a linear layer's
    gradient by its two factors (:mod:`ctrak_jax.gradient.layers`) takes none.
    """
    if MODEL not in mesh.axis_names:
        return fn

    def whole(part: Any, full: Any) -> Any:
        for axis, (length, wanted) in enumerate(zip(part.shape, full.shape, strict=True)):
            if length != wanted:
                return jax.lax.all_gather(part, MODEL, axis=axis, tiled=True)
        return part

    # Copies of parameters in another layout or dtype are as large as the parameters.
    @partial(jax.checkpoint, policy=lambda primitive, *_, **__: str(primitive) not in _CHEAP)
    def gathered(params: Any, *args: Any) -> Any:
        return fn(jax.tree.map(whole, params, shapes), *args)

    return gathered


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """The same values on every device."""
    return put(tree, mesh, WHOLE)


def put_batches(tree: Any, mesh: Mesh) -> Any:
    """Stacked training batches [step, batch, ...], the batch axis split over devices."""
    return put(tree, mesh, PartitionSpec(None, mesh.axis_names))


def host_array(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Empty memory on a boundary of 64 bytes, so that a CPU device works on it without a copy.
    (Scores of 100,000 x 4,096 features in memory: 0.1 s instead of 0.9.)"""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size].view(dtype).reshape(shape)


def padded(rows: np.ndarray, multiple: int) -> np.ndarray:
    """Row numbers extended to a multiple by repeating the last one, so that shapes stay fixed."""
    return np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % multiple, axis=0)])


def in_batches(fn: Callable[[np.ndarray], Any], count: int, size: int) -> Any:
    """The arrays of ``fn(rows)`` of all rows, end to end; always given ``size`` of them, it is
    compiled once."""
    parts = []
    for first in range(0, count, size):
        rows = np.arange(first, min(first + size, count))
        found = jax.tree.map(np.asarray, fn(padded(rows, size)))
        meeting.progress()
        parts.append(found)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


def memory(mesh: Mesh) -> int:
    """Bytes that a solve may take of one device: half of its own, or of its share of the host. The
    least of all processes, so that they choose alike."""
    stats = mesh.devices.flat[0].memory_stats()
    if stats and "bytes_limit" in stats:
        found = stats["bytes_limit"] // 2
    else:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (2 * mesh.size)
    return int(hosts.joined_up(np.array([found // 2**20], np.int32), 0).min()) * 2**20


def sum_over_hosts(part: jax.Array, mesh: Mesh) -> jax.Array:
    """The sum over all processes of an array that each has whole on its devices, whole again.

    Every device of a process sends and receives a share of it over the network between the hosts.
    The other processes' meshes have as many devices.
    """
    processes = jax.process_count()
    if processes == 1:
        return part
    hosts.barrier("sum over hosts")
    local = jax.local_devices()
    used = [local.index(device) for device in mesh.devices.flat]
    everywhere = [[jax.local_devices(p)[i] for i in used] for p in range(processes)]
    every = Mesh(np.array(everywhere), (HOSTS, SAMPLES))
    flat = np.asarray(part).reshape(1, -1)
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % mesh.size)))
    placed = jax.make_array_from_process_local_data(
        NamedSharding(every, PartitionSpec(HOSTS, SAMPLES)), flat, (processes, flat.shape[1])
    )
    added = _all_reduce(every)(placed)
    shares = sorted(added.addressable_shards, key=lambda share: share.index[1].start or 0)
    found = np.concatenate([np.asarray(share.data)[0] for share in shares])
    return put_replicated(found[: part.size].reshape(part.shape), mesh)


@cache
def _all_reduce(every: Mesh) -> Callable[[jax.Array], jax.Array]:
    given, summed = PartitionSpec(HOSTS, SAMPLES), PartitionSpec(None, SAMPLES)
    add = partial(jax.lax.psum, axis_name=HOSTS)
    return jax.jit(jax.shard_map(add, mesh=every, in_specs=given, out_specs=summed))


class SampleSum:
    """Sums over samples of ``fn(shared, rows)``, the rows split over all axes of a mesh.

    Every device adds into an accumulator of its own, ``add``; ``flush`` reduces them, once. On a
    mesh of several axes, outermost first, the sum is scattered over the inner ones, so that every
    device carries a share of it alone over the slow outer one, and gathered again.
    """

    def __init__(self, fn: fisher.RowFn, mesh: Mesh) -> None:
        split = samples_spec(mesh)
        outer, *inner = mesh.axis_names

        def add(total: jax.Array, shared: Any, rows: jax.Array) -> jax.Array:
            return total + fn(shared, rows)[None]

        def flush(total: jax.Array) -> jax.Array:
            part = total[0]
            if not inner:
                return jax.lax.psum(part, outer)
            axes, last = tuple(inner), part.ndim - 1
            columns = part.shape[last]
            uneven = -columns % math.prod(mesh.shape[axis] for axis in axes)
            part = jnp.pad(part, [(0, 0)] * last + [(0, uneven)])
            share = jax.lax.psum_scatter(part, axes, scatter_dimension=last, tiled=True)
            total = jax.lax.all_gather(jax.lax.psum(share, outer), axes, axis=last, tiled=True)
            return total[..., :columns]

        def shard(fn: Callable[..., jax.Array], specs: tuple, out: PartitionSpec, **donated):
            mapped = jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
            return jax.jit(mapped, **donated)

        self.add = shard(add, (split, WHOLE, split), split, donate_argnums=0)
        self.flush = shard(flush, (split,), WHOLE)
        self._fn, self._mesh = fn, mesh
        self._sharding = NamedSharding(mesh, split)

    def accumulators(self, shared: Any, rows: Any) -> jax.ShapeDtypeStruct:
        """What :attr:`add` adds into, by its other arguments or their shapes: [device, ...]."""
        one = jax.eval_shape(self._fn, shared, rows)
        shape = (self._mesh.size, *one.shape)
        return jax.ShapeDtypeStruct(shape, one.dtype, sharding=self._sharding)

    def zeros(self, shared: Any, rows: Any) -> jax.Array:
        """Empty accumulators."""
        like = self.accumulators(shared, rows)
        return jnp.zeros(like.shape, like.dtype, device=self._sharding)


class ShardedRows:
    """:class:`ctrak_jax.fisher.Rows` whose sums run over a mesh, and over all processes.

    ``blocks`` opens the rows of a range, ``block`` at a time; one is overwritten when the next is
    read. ``resident`` rows are read once and kept on the devices, n k / devices floats each.
    Every process sees the blocks and rows of its own ``part``; sums they take together.
    """

    def __init__(
        self,
        mesh: Mesh,
        n: int,
        k: int,
        blocks: Callable[[range], Iterable[fisher.Block]],
        *,
        block: int,
        resident: bool,
        part: range | None = None,
    ) -> None:
        self.n, self.k = n, k
        self._part = range(n) if part is None else part
        self._mesh, self._read = mesh, blocks
        self._size = block + -block % mesh.size
        self._resident = resident
        self._kept: list[tuple[range, jax.Array]] = []
        self._sums: dict[fisher.RowFn, SampleSum] = {}
        self._maps: dict[fisher.RowFn, Callable[[Any, Any], Any]] = {}

    def blocks(self) -> Iterator[fisher.Block]:
        yield from self._read(self._part)

    def whole(self) -> np.ndarray:
        """All rows, also those of other processes."""
        found = host_array((self.n, self.k))
        for rows, features in self._read(range(self.n)):
            found[rows.start : rows.stop] = features
        return found

    def total(self, fn: fisher.RowFn, shared: Any) -> jax.Array:
        if not self.n:
            raise ValueError("There are no rows to sum over.")
        summed = self._sums.setdefault(fn, SampleSum(fn, self._mesh))
        shared = put_replicated(shared, self._mesh)
        total = summed.zeros(shared, jax.ShapeDtypeStruct((self._size, self.k), jnp.float32))
        for _, rows in self._placed():
            total = summed.add(total, shared, rows)
            if not self._resident:
                jax.block_until_ready(total)  # the block's memory is about to be written to
        return sum_over_hosts(summed.flush(total), self._mesh)

    def each(self, fn: fisher.RowFn, shared: Any) -> Iterator[fisher.Block]:
        mapped = self._maps.setdefault(fn, over_samples(fn, self._mesh))
        shared = put_replicated(shared, self._mesh)
        for place, rows in self._placed():
            yield fisher.Block(place, np.asarray(mapped(shared, rows))[: len(place)])

    def _placed(self) -> Iterator[tuple[range, jax.Array]]:
        """All blocks on the devices, filled up with zero rows to one shape."""
        if self._kept:
            yield from self._kept
            return
        split = NamedSharding(self._mesh, samples_spec(self._mesh))
        kept = []
        for place, features in self.blocks():
            features = np.asarray(features, np.float32)
            if self._resident or len(place) < self._size:
                filled = host_array((self._size, self.k))
                filled[: len(place)], filled[len(place) :] = features, 0.0
                features = filled
            placed = jax.device_put(features, split)
            if self._resident:
                kept.append((place, placed))
            yield place, placed
        self._kept = kept
