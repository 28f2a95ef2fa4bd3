# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Larger than one device
# What changes on eight devices, on disk, in two processes and on a TPU pod: time and memory, and no
# number beyond rounding. Eight CPU devices stand in for the accelerators of one machine. They must
# be asked for before JAX starts.

# %%
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["CTRAK_LOG"] = "warning"  # no progress lines

# %%
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ctrak_jax as ct
from ctrak_jax import cli
from ctrak_jax.devices import local_mesh, over_samples
from ctrak_jax.errors import StoreError
from ctrak_jax.store import FeatureStore

os.chdir(tempfile.mkdtemp())
print(jax.device_count(), "devices")

# %% [markdown]
# ## A mesh
# Every function of the library is of one sample, so samples can be split over devices as they are.
# `over_samples` compiles `features(weights, batch)` for a mesh. Samples do not meet, and there is
# no communication.


# %%
def eps_fn(params, x, t, cond):
    h = jnp.tanh(params["a"] @ x.ravel() + cond @ params["c"])
    return (params["b"] @ h).reshape(x.shape)


keys = jax.random.split(jax.random.key(0), 4)
params = {
    "a": jax.random.normal(keys[0], (128, 192)) / 14,
    "b": jax.random.normal(keys[1], (192, 128)) / 11,
    "c": jax.random.normal(keys[2], (4, 128)),
}
x0 = jax.random.normal(keys[3], (64, 8, 8, 3))
cond = jnp.eye(4)[jnp.arange(64) % 4]

network, weights = ct.differentiable(eps_fn, params)
recipe = ct.Recipe(
    schedule=ct.schedule.linear(),
    grid=ct.grid(steps=20, every=2, kept=3),
    projection=ct.Projection(k=512),
)
batch = ct.TrainBatch(x0, cond, jnp.arange(64))
spec = ct.METHODS["concept-trak"].train


def features(weights, batch):
    found = ct.train_features(recipe, network, weights, [spec], batch, null=jnp.zeros(4))
    return found.features[:, 0]


one = over_samples(features, local_mesh(1))(weights, batch)
eight = over_samples(features, local_mesh(8))(weights, batch)
print("features", eight.shape, "in parts of", {s.data.shape for s in eight.addressable_shards})
print(f"largest relative difference: {jnp.abs(one - eight).max() / jnp.abs(one).max():.0e}")

# %% [markdown]
# Random numbers belong to samples, not to batches: the noise of a sample follows from its index and
# the timestep. So half of the samples, in another order, have the same features.

# %%
some = jnp.arange(63, -1, -2)[:32]
half = over_samples(features, local_mesh(4))(weights, jax.tree.map(lambda a: a[some], batch))
print(f"largest relative difference: {jnp.abs(half - one[some]).max() / jnp.abs(one).max():.0e}")

# %% [markdown]
# ## A store
# Features go to disk chunk by chunk (zarr v3, with checksums). A manifest says what they are made
# from. A chunk counts only when all of it is written, so a killed run loses the chunk it is at.

# %%
key = {"model": "the sketch above", "projection": {"k": 512, "seed": 0}}
index = np.arange(64)
store = FeatureStore.create(Path("store"), key, index=index, widths={"features": 512}, chunk=16)
for rows in store.missing[:2]:
    store.write(rows, {"features": np.asarray(eight)[rows.start : rows.stop]})
store.flush()
print("killed here; still missing:", store.missing)

# %%
again = FeatureStore.open(Path("store"), key)
for rows in again.missing:
    again.write(rows, {"features": np.asarray(eight)[rows.start : rows.stop]})
again.seal()
print("missing:", again.missing, " equal:", np.array_equal(again.read(), eight))

# %% [markdown]
# A store is never taken for something else:

# %%
try:
    FeatureStore.open(Path("store"), key | {"model": "another"})
except StoreError as error:
    print(error)

# %% [markdown]
# Fewer bits take less room. int8 keeps one scale per row, after equation (5.16).

# %%
sizes, errors = {}, {}
for dtype in ("float32", "bfloat16", "int8"):
    place = Path(f"store-{dtype}")
    kept = FeatureStore.create(
        place, key, index=index, widths={"features": 512}, chunk=16, dtype=dtype
    )
    for rows in kept.missing:
        kept.write(rows, {"features": np.asarray(eight)[rows.start : rows.stop]})
    kept.seal()
    sizes[dtype] = kept.bytes / 64
    errors[dtype] = np.abs(kept.read() - eight).max() / np.abs(eight).max()
fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.4))
axes[0].barh(list(sizes), list(sizes.values()))
axes[0].set(xlabel="bytes per sample, k = 512")
axes[1].barh(list(errors), list(errors.values()))
axes[1].set(xlabel="largest error / largest feature")
for ax in axes:
    ax.invert_yaxis()
fig.tight_layout()

# %% [markdown]
# ## Two processes
# The same command in every process. Each featurizes its own chunks, and the first one does what is
# done once. Here the two find each other on loopback and have four devices each. First a small
# model, and its features by this process alone.

# %%
Path("small.yaml").write_text(
    json.dumps(
        {
            "data": {"size": 96, "image_size": 8},
            "model": {"width": 16, "depth": 1, "heads": 2},
            "train": {"steps": 50, "batch": 32, "checkpoint_every": 50},
            "projection": {"k": 128},
            "store": {"chunk": 16},
            "methods": ["d-trak"],
            "references": [],
            "controls": [],
            "unnamed": {"attributes": []},
        }
    )
)
for command in ("train", "featurize"):
    assert cli.main([command, "small.yaml", "--out", "alone"]) == 0
shutil.copytree("alone/model", "both/model")  # the same model for both

# %%
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    where = f"127.0.0.1:{probe.getsockname()[1]}"
four = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
command = [sys.executable, "-m", "ctrak_jax.cli", "featurize", "small.yaml", "--out", "both"]
command += ["--coordinator", where, "--processes", "2"]
running = [
    subprocess.Popen([*command, "--process", str(i)], env=four, stderr=subprocess.PIPE, text=True)
    for i in range(2)
]
said = [process.communicate()[1] for process in running]
print("exit status:", [process.returncode for process in running])

# %%
alone, both = (ct.open_run(out).features("d-trak") for out in ("alone", "both"))
difference = np.abs(alone.read() - both.read()).max() / np.abs(alone.read()).max()
print(f"{both.rows} features; largest relative difference: {difference:.0e}")

# %% [markdown]
# A process that is killed ends the others. The same command resumes, with any number of processes
# and devices. On a cluster that JAX knows (TPU pod, Slurm, MPI, Kubernetes) `--distributed` takes
# the place of the three flags, and `--store.url gs://bucket/run` that of the common disk.

# %% [markdown]
# ## A plan
# `ctrak plan` compiles the step for a TPU topology without a TPU, and says memory, time and size of
# the store. It needs the TPU compiler (`make tpu`, or the extra `tpu-plan`).

# %%
plan = ["plan", "small.yaml", "--topology", "v5e:2x2", "--samples", "1e6", "--batch", "64"]
with contextlib.redirect_stderr(io.StringIO()):
    status = cli.main([*plan, "--only"])
if status:
    print("The TPU compiler is not installed here.")

# %% [markdown]
# ## What to try next
# - `ctrak bench scaling` measures one to all devices of this machine.
# - `ctrak run CONFIG --mesh.model 2` keeps the weight matrices in two parts.
# - `ctrak run CONFIG --minutes 30` stops in time at a saved piece; the same command resumes.
# - `ctrak plan configs/sd14.yaml --topology v5e:16x16` plans Stable Diffusion 1.4 on 256 chips.
