"""Compile the TPU kernel and the conjugate gradient step ahead of time for real topologies and
print what they need, as JSON lines.

Run by test_tpu.py in a process of its own, with TPU_LIBRARY_PATH naming libtpu: no TPU is needed.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ctrak_jax import devices, fisher
from ctrak_jax.fisher import cg
from ctrak_jax.projection import Projection, project

TOPOLOGIES = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")
SIZES = ((32, 334_784, 4096), (8, 44_000_000, 32_768))


CG = {"topology": "v5e:4x4", "n": 100_000, "k": 32_768, "queries": 32, "dampings": 7}


def main() -> None:
    conjugate_gradient_step()
    project_everywhere()


def conjugate_gradient_step() -> None:
    """The programs of one iteration over features that stay on the devices, by what each holds."""
    found = topologies.get_topology_desc(CG["topology"], "tpu").devices
    mesh = Mesh(np.array(found), (devices.SAMPLES,))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (devices.SAMPLES,)))

    def array(*shape: int, sharding: NamedSharding = whole) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    n, k, d, q = CG["n"], CG["k"], CG["dampings"], CG["queries"]
    rows, block = array(n, k, sharding=split), array(d, q, k)
    summed = devices.SampleSum(fisher.normal_product, mesh)
    total = summed.accumulators(array(d * q, k), rows)
    state = cg.State(block, block, block, array(d, q, 1))
    programs = {
        "add": summed.add.lower(total, array(d * q, k), rows),
        "flush": summed.flush.lower(total),
        "advance": cg.advance.lower(state, block, array(1, 1, k), array(d, 1, 1)),
    }
    for name, program in programs.items():
        memory = program.compile().memory_analysis()
        assert memory is not None
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes
        line = {"cg": name, "arguments": memory.argument_size_in_bytes}
        line |= {"held": held - memory.alias_size_in_bytes + memory.temp_size_in_bytes}
        print(json.dumps(line), flush=True)


def project_everywhere() -> None:
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
