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
import csv
import json
import sys
from pathlib import Path

from ctrak_jax.store import FeatureStore, read_manifest

run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/synthetic")

# %% [markdown]
# Precision at 10 of local questions about combinations the model never saw.

# %%
metrics = json.loads((run / "metrics.json").read_text())
for row in metrics["summary"]:
    if (row["scope"], row["scenario"], row["attribute"]) == ("local", "ood", "all"):
        low, high = row["ci95"]
        print(f"{row['method']:15s} {row['precision']:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# The ten training images behind "red" in the first red triangle.

# %%
with (run / "top" / "concept-trak.csv").open() as file:
    rows = [r for r in csv.DictReader(file) if r["query"] == "triangle-red-00"]
print([int(r["index"]) for r in rows if r["attribute"] == "color"][:10])

# %% [markdown]
# The features themselves: zarr v3, one row a training sample, keyed by the manifest.

# %%
path = run / "features" / "concept-trak"
store = FeatureStore(path, read_manifest(path))
print(store.read().shape, store.key["loss"], store.key["trajectory"]["path"])
