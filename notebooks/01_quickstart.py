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
# # Quickstart
# Which training images taught a diffusion model "red"? An answer with pictures, from a small run
# that is made here.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import ctrak_jax as ct
from ctrak_jax import cli

os.environ["CTRAK_LOG"] = "warning"  # no progress lines
os.chdir(tempfile.mkdtemp())

# %% [markdown]
# ## A run
# `ctrak demo` takes a model that comes with the package, a small diffusion transformer. It was
# trained on drawn triangles and circles, red and blue, without red triangles. The command generates
# images, asks about their colours, and ranks 400 training images for every question. In a shell it
# is the same line without Python.

# %%
status = cli.main(["demo", "--out", "demo"])

# %% [markdown]
# ## What a run holds
# `ct.open_run` reads it. A question is an image and one concept in it.

# %%
run = ct.open_run("demo")
images, colors = run.dataset.raw.images, run.dataset.raw.attributes["color"]
asked = [q for q in run.questions if q.attribute == "color" and q.split == "report"]
for question in asked:
    print(f"{question.query:18s} {question.scenario:3s} what taught {question.value!r}?")

# %% [markdown]
# The first held-out question: an image of a combination that the model never saw.

# %%
question = next(q for q in asked if q.scenario == "ood")
print("condition:", question.condition, " without the concept:", question.minus)
fig, ax = plt.subplots(figsize=(1.6, 1.6))
ax.imshow(run.image(question))
ax.set_title(question.query, fontsize=9)
ax.set_axis_off()

# %% [markdown]
# ## The answer
# Each row is a method, with the ten training images that it ranks first. `without="color"` takes
# the rankings in which no candidate's condition names a colour: only the picture can tell.

# %%
methods = ("concept-trak", "trak", "d-trak", "das", "similarity-pixels")
fig, axes = plt.subplots(len(methods), 10, figsize=(8.6, 4.6))
for method, row in zip(methods, axes, strict=True):
    hits = run.tops(method, without="color")[question.key]
    for ax, hit in zip(row, hits[:10], strict=True):
        ax.imshow(images[hit.index])
        ax.set(xticks=[], yticks=[])
        right = colors[hit.index] == question.value
        ax.spines[:].set(color="tab:green" if right else "0.8", linewidth=3 if right else 1)
    row[0].set_ylabel(method, rotation=0, ha="right", va="center", fontsize=9)
fig.suptitle(f'ranked first for "{question.value}" (green: carries it)', fontsize=10)
fig.tight_layout()

# %% [markdown]
# ## All questions
# The share of the first ten images that carry the concept, precision@10, with 95% intervals. The
# dashed line is chance.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.8), sharey=True)
titles = {"id": "combinations that were trained", "ood": "red triangles, which were not"}
for ax, scenario in zip(axes, titles, strict=True):
    found = {
        row.method: row
        for row in run.metrics.unnamed.summary
        if (row.scope, row.scenario, row.attribute) == ("local", scenario, "color")
    }
    for place, method in enumerate(methods):
        mean, low, high = found[method].interval
        ax.barh(place, mean, color="C3" if method == "concept-trak" else "0.7")
        ax.plot([low, high], [place, place], "k", lw=1.2)
    ax.axvline(found["concept-trak"].base_rate, c="k", ls="--", lw=0.8)
    ax.set(title=titles[scenario], xlabel="precision@10", xlim=(0, 1.02))
    ax.set_yticks(range(len(methods)), methods)
axes[0].invert_yaxis()
fig.tight_layout()

# %% [markdown]
# ## Scores
# A ranking orders the scores of all candidates. A positive one marks a proponent: a training step
# on that image makes the concept more present. The scale has no meaning.

# %%
numbers = [q.key for q in run.questions if q.attribute == "color"]
scores = run.scores("concept-trak", without="color")[numbers.index(question.key)]
carries = np.array([colors[i] == "red" for i in run.features("concept-trak").index])
fig, ax = plt.subplots(figsize=(6.4, 2.8))
bins = np.linspace(scores.min(), scores.max(), 40)
ax.hist(scores[~carries], bins, color="tab:blue", alpha=0.7, label="blue candidates")
ax.hist(scores[carries], bins, color="tab:red", alpha=0.7, label="red candidates")
ax.axvline(0, c="k", lw=0.8)
ax.set(xlabel='score for "red"', ylabel="training images")
ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
ax.legend(frameon=False)
fig.tight_layout()

# %% [markdown]
# ## A question of your own
# Any image can be asked about, with its condition and the concept. Here it is another generated
# image, and the concept is its shape.

# %%
other = next(q for q in run.questions if q.query.startswith("circle-blue"))
picture, condition = str(run.image_file(other)), "shape=circle,color=blue"
about = ["--image", picture, "--condition", condition, "--concept", "shape", "--top", "5"]
status = cli.main(["attribute", "demo", *about])

# %% [markdown]
# ## What to try next
# - Open `demo/report/index.html` of a run in a browser: every question, every method.
# - `ctrak init my_images` writes a config for a folder of your own images, and `ctrak run
#   my_images.yaml` answers its questions.
# - What each number means: [reading an answer](05_reading_an_answer.py). How it is computed: [the
#   method](02_the_method.py).
# - [Your own network](03_your_own_network.py), [a text-to-image model](04_text_to_image.py),
#   [several devices](06_scaling.py).
