"""A feature store: zarr v3 arrays written chunk by chunk, and the manifest that keys them.

    <store>/manifest.json      what the rows are made from, and which row chunks are complete
    <store>/complete/<row>     a mark for every chunk completed since the manifest was written
    <store>/features           zarr v3 [rows, k], one row per sample, crc32c on every chunk
    <store>/scale              zarr v3 [rows] float32, beside features kept as int8
    <store>/index              zarr v3 [rows] int64, the dataset index of every row
    <store>/errors             zarr v3 [rows, time] float32, denoising errors, where needed

Every chunk is written, zeros too, so that a missing one is a lost one. A chunk is marked as
complete only after its data are written, in the background: a killed run loses at most what it was
computing and the chunk before it. Several processes fill one store side by side, each with chunks
and marks of its own; when all are done one of them seals the store. A store is never reused for
anything but what its manifest says.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorstore as ts

from ctrak_jax.devices import host_array
from ctrak_jax.errors import StoreError
from ctrak_jax.store.encoding import SCALE, Dtype, StoredRows, decode, encode
from ctrak_jax.store.files import plain
from ctrak_jax.store.manifest import FILE, differences, read_manifest, write_manifest
from ctrak_jax.store.place import (
    Place,
    below,
    create_array,
    keys,
    open_array,
    read_bytes,
    read_values,
    reason,
    refusals,
    write_bytes,
)

MARKS = "complete/"
_MARKED = ts.KvStore.KeyRange(MARKS, MARKS[:-1] + "0")  # "0" comes after "/"


class FeatureStore:
    """A feature store of fixed length, complete or not, at a folder or URL.

    Its methods raise a StoreError that names the file where one is missing or damaged, or where the
    disk refuses.
    """

    def __init__(self, place: Place, manifest: dict[str, Any]) -> None:
        self.place, self._manifest = place, manifest
        names = [*manifest["arrays"], "index"]
        names += [SCALE] if "int8" in manifest["arrays"].values() else []
        self._arrays = {name: open_array(below(place, name)) for name in names}
        for name, array in self._arrays.items():
            (chunk, *_) = array.chunk_layout.write_chunk.shape or (0,)
            if array.shape[0] != self.rows or (name != "index" and chunk != manifest["chunk"]):
                raise StoreError(
                    f"{below(place, name)}: has {array.shape[0]} rows in chunks of {chunk}, "
                    f"{below(place, FILE)} says {self.rows} in chunks of {manifest['chunk']}; "
                    f"{self._advice}."
                )
        self._marks = self._read_marks()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    @staticmethod
    def exists(place: Place) -> bool:
        """Has a store been begun there?"""
        return read_bytes(place, FILE) is not None

    @classmethod
    def open(cls, place: Place, key: Mapping[str, Any]) -> "FeatureStore":
        """Open an existing store; one that is made from another key is refused."""
        store = cls(place, read_manifest(place))
        differing = differences(store.key, plain(key))
        if differing:
            raise StoreError(
                f"{place} was made from other inputs; differing fields: {'; '.join(differing)}. "
                "Use another --out, or delete this folder to compute it anew."
            )
        return store

    @classmethod
    def create(
        cls,
        place: Place,
        key: Mapping[str, Any],
        *,
        index: np.ndarray,
        widths: Mapping[str, int],
        chunk: int,
        dtype: Dtype = "float32",
        together: Sequence[str] = (),
        precision: Mapping[str, str] | None = None,
    ) -> "FeatureStore":
        """Open the store at ``place``, or make an empty one.

        Args:
            key: what the rows are made from (JSON-able).
            index: dataset index of every row.
            widths: array name -> columns.
            chunk: rows per chunk.
            dtype: how ``features`` are kept; other arrays are float32.
            together: the stores filled by one program, this one among them.
            precision: what products are on the devices that begin the store
                (:func:`ctrak_jax.precision.described`), for the record.
        """
        if cls.exists(place):
            return cls.open(place, key)
        _delete_marks(place)  # what is there without a manifest is nobody's
        rows = len(index)
        arrays = {name: dtype if name == "features" else "float32" for name in widths}
        for name, width in widths.items():
            create_array(below(place, name), (rows, width), chunk, arrays[name])
        if dtype == "int8":
            create_array(below(place, SCALE), (rows,), chunk, "float32")
        whole = create_array(below(place, "index"), (rows,), max(rows, 1), "int64")
        with refusals(f"{below(place, 'index')}: cannot be written"):
            whole.write(index.astype(np.int64)).result()
        manifest = {
            "key": plain(key),
            "rows": rows,
            "chunk": chunk,
            "arrays": arrays,
            "complete": [],
            "together": list(together),
            "precision": dict(precision or {}),
        }
        write_manifest(place, manifest)
        return cls(place, manifest)

    @property
    def _advice(self) -> str:
        return f"delete {self.place} and compute it again"

    @property
    def key(self) -> dict[str, Any]:
        """What the rows are made from."""
        return self._manifest["key"]

    @property
    def together(self) -> tuple[str, ...]:
        """The stores that were begun with this one, to be filled by the same program."""
        return tuple(self._manifest["together"])

    @property
    def rows(self) -> int:
        return self._manifest["rows"]

    @property
    def width(self) -> int:
        """Length of a feature."""
        return self._arrays["features"].shape[1]

    @property
    def bytes(self) -> int:
        """What the arrays' values take, without what the disk adds."""
        return sum(a.size * a.dtype.numpy_dtype.itemsize for a in self._arrays.values())

    @property
    def chunks(self) -> list[range]:
        """Row ranges of all chunks."""
        size = self._manifest["chunk"]
        return [range(s, min(s + size, self.rows)) for s in range(0, self.rows, size)]

    @property
    def missing(self) -> list[range]:
        """Row ranges of the chunks still to be computed; those being written are not."""
        done = self._marks.union(self._manifest["complete"])
        return [rows for rows in self.chunks if rows.start not in done]

    def write(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one whole chunk of every array in the background, and mark it as complete then.
        Waits for the chunk written before.

        Raises:
            StoreError: not exactly the store's arrays in the chunk's shape, or a value that is NaN
                or infinite as float32 (names the sample): nothing is written. Or the disk refused
                the chunk before.
        """
        encoded = self._encoded(rows, arrays)
        self.flush()
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._marks.add(rows.start)
        self._writing = self._writer.submit(self._put, rows, encoded)

    def flush(self) -> None:
        """Wait until what was given to :meth:`write` is written and marked."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _encoded(self, rows: range, arrays: Mapping[str, np.ndarray]) -> dict[str, StoredRows]:
        names = self._manifest["arrays"]
        wanted = {name: (len(rows), *self._arrays[name].shape[1:]) for name in names}
        found = {name: np.shape(values) for name, values in arrays.items()}
        if rows not in self.chunks or found != wanted:
            raise StoreError(
                f"{self.place}: got {found} for rows {rows.start}..{rows.stop - 1}; a chunk has "
                f"{self._manifest['chunk']} rows, and these ones take {wanted}."
            )
        encoded = {}
        for name, given in arrays.items():
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.asarray(given, np.float32)
                encoded[name] = encode(values, names[name])
            kept = decode(*encoded[name]) if names[name] == "bfloat16" else values
            bad = ~np.isfinite(kept).reshape(len(kept), -1).all(axis=1)
            if bad.any():
                sample = int(self.index[rows.start + int(np.argmax(bad))])
                raise StoreError(
                    f"{self.place}: {name} of sample {sample} hold NaN or infinity; nothing "
                    "of its chunk was written. Look at that image, or lower trajectory.guidance."
                )
        return encoded

    def _put(self, rows: range, encoded: Mapping[str, StoredRows]) -> None:
        part = slice(rows.start, rows.stop)
        try:
            writes = []
            for name, (values, scale) in encoded.items():
                writes.append(self._arrays[name][part].write(values))
                if scale is not None:
                    writes.append(self._arrays[SCALE][part].write(scale))
            for pending in writes:
                pending.result()
            write_bytes(self.place, f"{MARKS}{rows.start}", b"")
        except (OSError, ValueError, StoreError) as error:
            self._marks.discard(rows.start)
            raise StoreError(
                f"{self.place}: cannot write rows {rows.start}..{rows.stop - 1} "
                f"({reason(error)}); the rows before are kept."
            ) from error

    def seal(self) -> None:
        """Turn the marks of all processes into the manifest's list, once no chunk is missing. For
        one process alone, when the others are done."""
        self.flush()
        self._marks |= self._read_marks()
        if self.missing:
            return
        complete = [rows.start for rows in self.chunks]
        if self._manifest["complete"] != complete:
            self._manifest["complete"] = complete
            write_manifest(self.place, self._manifest)
        if self._marks:
            _delete_marks(self.place)
            self._marks = set()

    def _read_marks(self) -> set[int]:
        with refusals(f"{self.place}: cannot be listed"):
            found = keys(self.place).list(_MARKED).result()
            # A file that is being written bears a longer name for that moment.
            names = [key.decode().removeprefix(MARKS) for key in found]
        starts = {rows.start for rows in self.chunks}
        return {int(name) for name in names if name.isdecimal()} & starts

    def read(self, name: str = "features") -> np.ndarray:
        """All rows of an array in float32; every chunk's checksum is verified."""
        self._refuse_missing()
        parts = [self._read(name, rows) for rows in self.chunks]
        return np.concatenate(parts) if parts else np.empty(self._arrays[name].shape, np.float32)

    def blocks(
        self, name: str, rows: int, part: range | None = None
    ) -> Iterator[tuple[range, np.ndarray]]:
        """All rows of an array, or those of ``part``, in order and in float32: about ``rows`` rows
        at a time, whole chunks where ``part`` begins with one.

        The chunks of the next block are read, side by side, while the caller works on the present
        one. Two blocks of memory serve in turn: an array is valid until the next one is read.
        (Fresh memory for each halves the rate: 6.2 against 2.5 GB/s from the page cache.)
        """
        self._refuse_missing()
        array, chunk = self._arrays[name], self._manifest["chunk"]
        scale = self._scale(name)
        part = range(self.rows) if part is None else part
        size = min(max(rows // chunk, 1) * chunk, len(part))
        shape = (size, *array.shape[1:])
        memory = [host_array(shape, array.dtype.numpy_dtype) for _ in range(2)]
        firsts = range(part.start, part.stop, max(size, 1))
        spans = [range(first, min(first + size, part.stop)) for first in firsts]

        def begin(number: int) -> ts.WriteFutures:
            span, into = spans[number], ts.array(memory[number % 2])
            source = array[span.start : span.stop].translate_to[0]
            return into[: len(span)].write(source)

        reading = begin(0) if spans else None
        for number, span in enumerate(spans):
            try:
                assert reading is not None
                reading.result()
            except (OSError, ValueError):
                self._read_again(name, span, memory[number % 2])
            reading = begin(number + 1) if number + 1 < len(spans) else None
            values = memory[number % 2][: len(span)]
            yield span, decode(values, None if scale is None else scale[span.start : span.stop])

    def _read_again(self, name: str, span: range, memory: np.ndarray) -> None:
        """Rows into memory, chunk by chunk: an error names the damaged one."""
        for chunk in self.chunks:
            first, last = max(chunk.start, span.start), min(chunk.stop, span.stop)
            if first < last:
                values = self._chunk(name, chunk)
                part = values[first - chunk.start : last - chunk.start]
                memory[first - span.start : last - span.start] = part

    def _scale(self, name: str) -> np.ndarray | None:
        """The scales of all rows, where an array needs them."""
        if self._manifest["arrays"][name] != "int8":
            return None
        return np.concatenate([self._chunk(SCALE, rows) for rows in self.chunks])

    def _refuse_missing(self) -> None:
        self.flush()
        if self.missing:
            raise StoreError(
                f"{self.place}: {len(self.missing)} of {len(self.chunks)} chunks are missing; "
                "run the stage that writes it again; it resumes."
            )

    def _read(self, name: str, rows: range) -> np.ndarray:
        scaled = self._manifest["arrays"][name] == "int8"
        return decode(self._chunk(name, rows), self._chunk(SCALE, rows) if scaled else None)

    def _chunk(self, name: str, rows: range) -> np.ndarray:
        chunk = rows.start // self._manifest["chunk"]
        return read_values(
            self._arrays[name][rows.start : rows.stop],
            f"{below(self.place, name)}: chunk {chunk} (rows {rows.start}..{rows.stop - 1})",
            self._advice,
        )

    @property
    def index(self) -> np.ndarray:
        """Dataset index of every row."""
        return read_values(self._arrays["index"], f"{below(self.place, 'index')}", self._advice)

    def verify(self) -> None:
        """Read the index and every complete chunk and check them."""
        _ = self.index
        missing = set(self.missing)
        for name in self._manifest["arrays"]:
            for rows in self.chunks:
                if rows not in missing:
                    self._read(name, rows)


def _delete_marks(place: Place) -> None:
    with refusals(f"{below(place, MARKS)}: cannot be written"):
        keys(place).delete_range(_MARKED).result()
