"""A process with forced host devices, for :mod:`ctrak_jax.bench.scaling`.

The first line on stdin, ``{"batch", "k", "method", "file"}``, is answered with what is known of the
compiled program; each further line, when the features are computed and written to the file.
"""

import json
import sys

import jax
import numpy as np

from ctrak_jax import devices
from ctrak_jax.bench.timing import compiled
from ctrak_jax.bench.work import features_of, subject
from ctrak_jax.methods import METHODS


def main() -> None:
    """Answer on stdout until stdin ends."""
    asked = json.loads(sys.stdin.readline())
    found, spec = subject(asked["batch"], asked["k"]), METHODS[asked["method"]].train
    assert spec is not None
    mesh = devices.local_mesh()
    rows = devices.over_samples(features_of(found, spec), mesh)
    weights = devices.put_replicated(found.params, mesh)
    program = compiled(rows, (weights, found.batch), mesh.size)
    known = program._asdict()
    del known["compiled"]
    print(json.dumps(known), flush=True)
    for _ in sys.stdin:
        features = jax.block_until_ready(program.compiled(weights, found.batch)).features
        np.save(asked["file"], np.asarray(features)[:, 0])
        print("{}", flush=True)


if __name__ == "__main__":
    main()
