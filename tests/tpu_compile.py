"""Compile the TPU kernel ahead of time for real topologies and print what it needs, as JSON lines.

Run by test_tpu.py in a process of its own, with TPU_LIBRARY_PATH naming libtpu: no TPU is needed.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ctrak_jax import mesh as devices
from ctrak_jax.projection import Projection, project

TOPOLOGIES = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")
SIZES = ((32, 334_784, 4096), (8, 44_000_000, 32_768))


def main() -> None:
    for name in TOPOLOGIES:
        found = topologies.get_topology_desc(name, "tpu").devices
        mesh = Mesh(np.array(found), (devices.SAMPLES,))
        split = NamedSharding(mesh, PartitionSpec(devices.SAMPLES))
        for batch, d, k in SIZES:
            for dtype in (jnp.float32, jnp.bfloat16):
                projection = Projection(k, implementation="pallas_tpu")
                fn = devices.over_samples(lambda p, g, to=projection: project(g, to), mesh)
                g = jax.ShapeDtypeStruct((batch * len(found), d), dtype, sharding=split)
                memory = jax.jit(fn).lower((), g).compile().memory_analysis()
                assert memory is not None
                line = {"topology": name, "d": d, "k": k, "dtype": dtype.__name__}
                print(json.dumps(line | {"temporaries": memory.temp_size_in_bytes}), flush=True)


if __name__ == "__main__":
    main()
