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
# # A text-to-image model
# Questions in words about a Stable Diffusion. The model here is tiny and made on the spot; a Stable
# Diffusion 1.x or 2.x takes the same steps.

# %%
import os
import tempfile
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import ctrak_jax as ct
from ctrak_jax import cli, prompts
from ctrak_jax.data.synthetic import draw
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.stable_diffusion.small import Size
from ctrak_jax.models.stable_diffusion.small_training import (
    FitSpec,
    SmallTraining,
    train_text_to_image,
)
from ctrak_jax.models.tokenizers.vocabulary import derive
from ctrak_jax.models.training import OptimizerSpec

os.environ["CTRAK_LOG"] = "error"  # no progress lines
os.chdir(tempfile.mkdtemp())

# %% [markdown]
# ## Pictures and captions
# A folder of pictures with a caption beside each. No picture shows a red triangle.

# %%
SIDE, EACH = 16, 50
kinds = [
    (c, s)
    for c, s in product(("red", "blue"), ("circle", "triangle"))
    if (c, s) != ("red", "triangle")
]
rng = np.random.default_rng(0)
images, captions = [], []
for color, shape in kinds * EACH:
    images.append(draw(shape, color, tuple(rng.uniform(0.35, 0.65, 2)), SIDE))
    captions.append(f"a {color} {shape}")
Path("pictures").mkdir()
for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
    Image.fromarray(image).save(f"pictures/{i:03d}.png")
    Path(f"pictures/{i:03d}.txt").write_text(caption)

fig, axes = plt.subplots(1, 6, figsize=(8, 1.6))
for ax, image, caption in zip(axes, images, captions, strict=False):
    ax.imshow(image)
    ax.set_title(caption, fontsize=9)
    ax.set_axis_off()

# %% [markdown]
# ## A model in diffusers' format
# An autoencoder, a CLIP text encoder and a UNet, trained for some seconds. With a model of your own
# this cell is left out.


# %%
def merges_of(word):
    """The pairs of a byte-pair vocabulary that make one token of a word."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    while len(pieces) > 1:
        yield f"{pieces[0]} {pieces[1]}"
        pieces = [pieces[0] + pieces[1], *pieces[2:]]


merges = [pair for word in ("red", "blue", "circle", "triangle") for pair in merges_of(word)]
size = Size(
    image=SIDE, autoencoder=(8, 16), unet=(32,), heads=2, text_width=32, text_layers=1, tokens=8
)
settings = SmallTraining(
    size=size,
    autoencoder=FitSpec(OptimizerSpec(300, 1e-2, 3e-3, warmup=30), 32, ema=0.98),
    denoiser=FitSpec(OptimizerSpec(600, 1e-2, 2e-3), 32, ema=0.99),
    checkpoint_every=600,
)
words = derive(merges)
train_text_to_image(Path("model"), np.stack(images), captions, settings, seed=0, words=words)
print(*sorted(str(path) for path in Path("model").glob("*/*.json")), sep="\n")

# %% [markdown]
# ## Concepts are words
# The prompt without a concept is the prompt without its words. The rules are simple, so look at the
# result; `--minus` replaces it.

# %%
prompt = "a red triangle"
for concept in ("red", "triangle"):
    print(f"{prompt!r} without {concept!r}: {prompts.without(prompt, concept)!r}")

# %% [markdown]
# ## A slider
# What the concept is for the network: the difference of its predictions with and without the words,
# equation (2.6). `sd.load` gives the network as an `eps_fn`, and `sd.load_codecs` the latents and
# texts that it takes.

# %%
model, codecs = sd.load(Path("model")), sd.load_codecs(Path("model"))
schedule, eps_fn = model.noise.schedule, model.denoiser.eps_fn


def text(prompt):
    return codecs.text.network.apply(codecs.text.params, codecs.text.network.tokens(prompt))


picture = draw("triangle", "red", (0.5, 0.5), SIDE)
latent = codecs.image.network.encode(codecs.image.params, picture / np.float32(127.5) - 1)
noise = jax.random.normal(jax.random.key(0), latent.shape)
predict = jax.jit(eps_fn)
fig, axes = plt.subplots(2, 4, figsize=(7.6, 3.9))
for row, concept in zip(axes, ("red", "triangle"), strict=True):
    row[0].imshow(picture)
    row[0].set_ylabel(f'"{concept}"', fontsize=10)
    row[0].set(xticks=[], yticks=[])
    for ax, t in zip(row[1:], (99, 299, 599), strict=True):
        noised = ct.schedule.level(schedule, t)
        x = noised.signal * latent + noised.noise * noise
        shift = predict(model.denoiser.params, x, t, text(prompt))
        shift -= predict(model.denoiser.params, x, t, text(prompts.without(prompt, concept)))
        ax.imshow(jnp.linalg.norm(shift, axis=-1), cmap="magma")
        ax.set(xticks=[], yticks=[])
        if concept == "red":
            ax.set_title(f"t = {t}", fontsize=10)
fig.suptitle("size of the concept's shift, by place in the latents", fontsize=10)
fig.tight_layout()

# %% [markdown]
# ## Features
# A config names the model and the folder. `train` takes the model over, `encode` makes latents and
# text embeddings, `featurize` the features. Candidates are featurized under the empty prompt: their
# captions are not read.

# %%
Path("mine.yaml").write_text("""
model: {kind: text-to-image, checkpoint: model}
data: {kind: folder, path: pictures, condition_on: []}
trajectory: {steps: 20, record_every: 2}
projection: {kind: srht, k: 1024}
query: {check: none}
methods: [concept-trak]
controls: []
""")
for command in ("train", "encode", "featurize"):
    assert cli.main([command, "mine.yaml", "--out", "run"]) == 0

# %% [markdown]
# ## A question in words
# The picture is one that the model never saw, a red triangle. Without `--image` the model generates
# one from `--image-seed`. Each concept has an answer of its own.

# %%
Image.fromarray(picture).save("question.png")
asked = ["--image", "question.png", "--prompt", prompt, "--concepts", "red", "triangle"]
status = cli.main(["attribute", "run", *asked, "--picture", "answer.png"])

# %%
fig, ax = plt.subplots(figsize=(9, 3.4))
ax.imshow(plt.imread("answer.png"))
ax.set_axis_off()
fig.tight_layout()

# %% [markdown]
# A third of the pictures is red, and a third shows a triangle: three of ten is what chance finds.
# Pictures that show the word's other value are mistakes. This model was trained for seconds.

# %% [markdown]
# ## What to try next
# - Your own model: `checkpoint: stable-diffusion-v1-4` in the config, and `gradient: {include:
#   ["*attn2*"], batch: 8, time_chunk: 1}` for its size.
# - `--scope global` asks what taught the model the concept in whatever it makes of the prompt.
# - `--minus "a blue triangle"` asks for red against blue, and not for red against nothing.
# - `ctrak tune` trains a [LoRA](../docs/howto/lora.md), whose parameters alone can be asked.
