# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Reading a run
# After `make run`: the table, one answer, and a feature store. Open it as a notebook with jupytext
# (`pip install jupytext notebook`),
# or run it as a script: `.venv/bin/python notebooks/read_a_run.py RUN`.

# %%
import sys

import ctrak_jax as ct

run = ct.open_run(sys.argv[1] if len(sys.argv) > 1 else "runs/synthetic")

# %% [markdown]
# Precision at 10 of local questions about combinations the model never saw. References, which ask
# no model trained on the images, are set in.

# %%
for row in run.metrics.summary:
    if (row.scope, row.scenario, row.attribute) == ("local", "ood", "all"):
        mean, low, high = row.interval
        inset = "  " if ct.METHODS[row.method].kind == "reference" else ""
        print(f"{inset + row.method:20s} {mean:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# The ten training images behind "red" in the first red triangle.

# %%
hits = run.tops("concept-trak")["triangle-red-00", "color"]
print([hit.index for hit in hits[:10]])

# %% [markdown]
# The features themselves: zarr v3, one row per training sample, keyed by the manifest.

# %%
store = run.features("concept-trak")
print(store.read().shape, store.key["loss"], store.key["trajectory"]["path"])
