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
# # Reading an answer
# What stands behind the ten images of an answer: chance, intervals, the damping, a control. And
# what a score does not mean.

# %%
import os
import tempfile

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import hypergeom, spearmanr

import ctrak_jax as ct
from ctrak_jax import cli

os.environ["CTRAK_LOG"] = "warning"  # no progress lines
os.chdir(tempfile.mkdtemp())

# %% [markdown]
# The run of the quickstart, and then the same run with a control: only what is missing is computed.

# %%
status = cli.main(["demo", "--out", "demo"])
status = cli.main(["run", "demo", "--out", "demo", "--controls", "[wrong-label]"])
run = ct.open_run("demo")

# %% [markdown]
# ## Named and unnamed
# A candidate's feature depends on the condition that it is denoised under. Where that names the
# concept, looking the label up is right ten times in ten. So the table of unnamed precision counts:
# there no candidate's condition names the attribute asked about, and only the picture can tell.

# %%
color = [q for q in run.questions if q.attribute == "color" and q.split == "report"]
shown = ("concept-trak", "trak", "d-trak", "das", "similarity-pixels")


def mean_of(summary, method, scenario):
    rows = [
        r for r in summary if (r.method, r.scenario, r.attribute) == (method, scenario, "color")
    ]
    return next(r for r in rows if r.scope == "local")


print(f"{'precision@10':18s} {'unnamed, seen':>14s} {'never seen':>11s} {'named, seen':>12s}")
for method in shown:
    unnamed = [mean_of(run.metrics.unnamed.summary, method, s).precision for s in ("id", "ood")]
    named = mean_of(run.metrics.summary, method, "id").precision
    print(f"{method:18s} {unnamed[0]:14.2f} {unnamed[1]:11.2f} {named:12.2f}")

# %% [markdown]
# ## The base rate
# Chance finds the share of carriers among the candidates. How likely are so many carriers among ten
# images drawn at random?

# %%
candidates = run.features("concept-trak").index
colors = np.array([run.dataset.raw.attributes["color"][i] for i in candidates])
red = int((colors == "red").sum())
print(f"{red} of {len(candidates)} candidates are red: base rate {red / len(candidates):.2f}")
for hits in (4, 6, 8, 10):
    chance = hypergeom.sf(hits - 1, len(candidates), red, 10)
    print(f"{hits:2d} or more of 10 by chance: {chance:.4f}")

# %% [markdown]
# ## Intervals
# A mean over few questions is uncertain. Intervals are by bootstrap over training seeds and images.
# They do not know what never happened: questions that all have the same precision give an interval
# of no width.

# %%
fig, ax = plt.subplots(figsize=(7.4, 3.0))
for place, method in enumerate(shown):
    rows = [r for r in run.metrics.unnamed.rows if r.method == method and r.value == "red"]
    values = np.array([r.precision for r in rows if r.scope == "local"])
    mean, low, high = ct.metrics.bootstrap_mean([values])
    ax.plot(values, place + np.linspace(-0.2, 0.2, len(values)), "o", c="C0", ms=4, alpha=0.5)
    ax.plot([low, high], [place, place], c="k", lw=2)
    ax.plot(mean, place, "kD", ms=5)
ax.axvline(red / len(candidates), c="C3", ls="--", lw=1)
ax.set_yticks(range(len(shown)), shown)
ax.invert_yaxis()
ax.set(xlabel="precision@10 (dots: questions; line: 95% interval of the mean)", xlim=(-0.03, 1.03))
ax.set_title('questions about "red" (dashed: base rate)', fontsize=10)
fig.tight_layout()

# %% [markdown]
# ## The damping
# Scores are inner products under $(G + \lambda I)^{-1}$, equation (5.11). A small damping $r$
# relies on the Fisher, a large one makes it a plain inner product. The value is chosen on
# validation questions, which are never reported. The whole curve is kept, so that a lucky choice
# can be seen.

# %%
question = next(q for q in color if q.scenario == "ood")
number = run.questions.index(question)
phi = jnp.asarray(run.features("concept-trak", without="color").read())
phi_q = jnp.asarray(run.query_features("concept-trak").read()[number : number + 1])
multiples = [0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0]
scores = np.stack([ct.influence(phi, z)[0] for z in ct.fisher.dual(phi, phi_q, multiples)])
carries = colors == question.value
precision = [ct.precision_at_k(np.argsort(-row), carries, 10) for row in scores]
alike = [spearmanr(row, scores[-1]).statistic for row in scores]
chosen = run.dampings["concept-trak"].of("color")
fig, ax = plt.subplots(figsize=(7.4, 3.0))
ax.semilogx(multiples, precision, "o-", label=f"precision@10 of {question.query}")
ax.semilogx(multiples, alike, "s--", c="0.5", label="rank correlation with the last")
ax.axvline(chosen, c="C3", lw=1, label=f"chosen: r = {chosen:g}")
ax.set(xlabel="damping multiple r", ylim=(-0.05, 1.05))
fig.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
fig.tight_layout(rect=(0, 0, 1, 0.93))

# %% [markdown]
# ## Picture or label?
# The control `wrong-label` featurizes a fifth of the candidates under another condition. Then there
# are images with red in the picture alone, and images with red in the label alone. Where do they
# rank? 1 is the top, 0.5 is chance. A method that reads labels has the second above the first.

# %%
table = run.metrics.controls["wrong-label"].summary
rows = [r for r in table if r.scope == "local" and r.scenario == "id" and r.method in shown]
fig, ax = plt.subplots(figsize=(6.8, 2.8))
for place, row in enumerate(rows):
    for (mean, low, high), shade, shape, offset in zip(
        row.intervals, ("C2", "C1"), "os", (-0.12, 0.12), strict=True
    ):
        ax.plot([low, high], [place + offset] * 2, c=shade, lw=2)
        ax.plot(mean, place + offset, shape, c=shade)
ax.plot([], [], "o-", c="C2", label="carries it in the picture alone")
ax.plot([], [], "s-", c="C1", label="carries it in the label alone")
ax.axvline(0.5, c="k", ls="--", lw=0.8)
ax.set_yticks(range(len(rows)), [r.method for r in rows])
ax.invert_yaxis()
ax.set(xlabel="mean rank percentile", xlim=(0, 1))
fig.legend(frameon=False, fontsize=9, ncols=2, loc="upper center")
fig.tight_layout(rect=(0, 0, 1, 0.92))

# %% [markdown]
# ## What a score does not mean
# **It has no unit.** Scores of two questions cannot be compared, nor those of two dampings.

# %%
for r, row in zip(multiples[::2], scores[::2], strict=True):
    print(f"r = {r:<8g} best score {row.max():10.3g}   sum over candidates {row.sum():10.3g}")

# %% [markdown]
# **It is no share.** The sums above are not 1, and many scores are negative: a training step on
# those images makes the concept less present.

# %%
final = scores[multiples.index(chosen)]
for name, part in {"all candidates": final, "red ones": final[carries]}.items():
    print(f"negative: {(part < 0).mean():.0%} of {name}")

# %% [markdown]
# **There are always ten first images.** Take all red candidates away, and the ranking of the rest
# looks like any other. Only the carriers counted beside it, or a look at the images, tell.

# %%
left = np.flatnonzero(~carries)
best = left[np.argsort(-final[left])[:10]]
fig, axes = plt.subplots(2, 10, figsize=(8.6, 2.1))
rankings = {"all": np.argsort(-final)[:10], "none red": best}
for row, (name, ranked) in zip(axes, rankings.items(), strict=True):
    for ax, i in zip(row, ranked, strict=True):
        ax.imshow(run.dataset.raw.images[candidates[i]])
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{final[i]:.2g}", fontsize=7)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
fig.suptitle(f'ranked first for "{question.value}", with scores', fontsize=10)
fig.tight_layout()

# %% [markdown]
# **It is no proof of copying.** It says what a small step on an image would do to the concept in
# the question's image. Whether the model would do without it is another question: `ctrak
# counterfactual` trains again without the first images.

# %% [markdown]
# ## What to try next
# - More questions and seeds make intervals narrow: `--query.per_combination 16 --run.seeds '[0,
#   1]'`.
# - `--references '[labels, random, similarity-pixels]'` ranks by looking labels up, and at random.
# - `ctrak counterfactual CONFIG` and `ctrak lds CONFIG` test rankings by training again.
