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
# # Your own network
# Any function `eps_fn(params, x, t, cond)` that predicts the noise of ONE sample can be asked.
# `params` is any pytree. Below the same network is written in plain JAX, Flax linen, Flax NNX and
# as a module that is itself a pytree, as Equinox has them. All four end in the same top-10 list.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen, nnx

import ctrak_jax as ct
from ctrak_jax.data.synthetic import draw
from ctrak_jax.schedule import add_noise

# %% [markdown]
# ## Pictures and conditions
# 240 small pictures of red and blue triangles and circles, without red triangles. A condition is
# two one-hot blocks, the shape and the colour. Zeros say nothing.

# %%
SHAPES, COLORS, SIDE = ("triangle", "circle"), ("red", "blue"), 8
pairs = np.array([(0, 1), (1, 0), (1, 1)])[np.arange(240) % 3]  # [image, (shape, colour)]
rng = np.random.default_rng(0)
places = rng.uniform(0.4, 0.6, (240, 2))
drawn = [
    draw(SHAPES[s], COLORS[c], tuple(place), SIDE)
    for (s, c), place in zip(pairs, places, strict=True)
]
x0 = jnp.asarray(np.stack(drawn) / 127.5 - 1, jnp.float32)  # [image, 8, 8, 3] in [-1, 1]
one_hot = np.eye(2, dtype=np.float32)
cond = jnp.asarray(np.concatenate([one_hot[pairs[:, 0]], one_hot[pairs[:, 1]]], axis=1))

# %% [markdown]
# ## Plain JAX
# Parameters are a dictionary, and the network is a function.

# %%
WIDTH, PIXELS = 256, SIDE * SIDE * 3


def inputs(x, t, cond):
    angles = t / 1000 * jnp.pi * jnp.array([0.5, 1, 2, 4])
    return jnp.concatenate([x.ravel(), jnp.sin(angles), jnp.cos(angles), cond])


def plain_fn(params, x, t, cond):
    h = jax.nn.silu(inputs(x, t, cond) @ params["a"])
    h = jax.nn.silu(h @ params["b"])
    return (h @ params["c"]).reshape(x.shape)


shapes = {"a": (PIXELS + 12, WIDTH), "b": (WIDTH, WIDTH), "c": (WIDTH, PIXELS)}
keys = jax.random.split(jax.random.key(0), 3)
params = {
    name: jax.random.normal(key, shape) / shape[0] ** 0.5
    for key, (name, shape) in zip(keys, shapes.items(), strict=True)
}

# %% [markdown]
# A short training. Each attribute is dropped now and then, so that the model knows conditions that
# do not name it.

# %%
schedule, STEPS, BATCH = ct.schedule.linear(), 3000, 128
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))


def loss_of(params, key):
    which, when, what, drop = jax.random.split(key, 4)
    rows = jax.random.randint(which, (BATCH,), 0, len(x0))
    times = jax.random.randint(when, (BATCH,), 0, schedule.steps)
    noise = jax.random.normal(what, x0[rows].shape)
    kept = jnp.repeat(jax.random.bernoulli(drop, 0.85, (BATCH, 2)), 2, axis=1)
    noised = jax.vmap(add_noise, (None, 0, 0, 0))(schedule, x0[rows], times, noise)
    found = jax.vmap(plain_fn, (None, 0, 0, 0))(params, noised, times, cond[rows] * kept)
    return jnp.mean((found - noise) ** 2)


def update(carry, key):
    params, state = carry
    loss, gradient = jax.value_and_grad(loss_of)(params, key)
    change, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, change), state), loss


train = jax.jit(lambda params, state, keys: jax.lax.scan(update, (params, state), keys))
keys = jax.random.split(jax.random.key(1), STEPS)
(params, _), losses = train(params, optimizer.init(params), keys)
print(f"loss {losses[:20].mean():.3f} -> {losses[-100:].mean():.3f}")

# %% [markdown]
# ## The question, once for every network
# The picture asked about is a red triangle, which no training picture is. The concept is "red":
# `minus` is the condition of a blue triangle. Training pictures are denoised under a condition
# without the colour. A network this small needs no projection, and the Fisher is solved exactly.

# %%
grid = ct.grid(steps=20, every=2, kept=3)
query = jnp.asarray(draw("triangle", "red", (0.5, 0.5), SIDE) / 127.5 - 1, jnp.float32)
red_triangle, blue_triangle = jnp.array([1.0, 0, 1, 0]), jnp.array([1.0, 0, 0, 1])
unnamed = cond * jnp.array([1.0, 1, 0, 0])


def answer(eps_fn, params):
    """The scores of all pictures for the question [image]."""

    def of_picture(x0, cond, index):
        key = jax.random.fold_in(jax.random.key(2), index)
        path = ct.forward_path(schedule, x0, grid.recorded, key)
        loss = ct.dps(schedule, x0)
        return ct.sample_gradient(loss, eps_fn, params, path, cond, normalise=True)

    def of_concept(x0, cond, minus):
        path = ct.invert(eps_fn, params, schedule, grid, x0, cond)
        loss = ct.slider(minus)
        return ct.sample_gradient(loss, eps_fn, params, path, cond, normalise=True)

    gradients = jax.jit(jax.vmap(of_picture))(x0, unnamed, jnp.arange(len(x0)))
    phi = ct.flatten_samples(gradients)
    asked = (query[None], red_triangle[None], blue_triangle[None])
    phi_q = ct.flatten_samples(jax.jit(jax.vmap(of_concept))(*asked))
    z = ct.fisher.dual(phi, phi_q, [1000.0])[0]
    return ct.influence(phi, z)[0]


scores = {"plain JAX": answer(plain_fn, params)}
best = ct.top_k(scores["plain JAX"][None], k=10).samples[0]
is_red = pairs[:, 1] == 0
print("top 10:", best)
print("precision@10:", ct.precision_at_k(best, is_red, k=10), " base rate:", is_red.mean().round(2))

# %%
fig, axes = plt.subplots(1, 11, figsize=(9.6, 1.3))
axes[0].imshow(np.asarray(query) / 2 + 0.5)
axes[0].set_title("question", fontsize=8)
for rank, (ax, row) in enumerate(zip(axes[1:], best, strict=True), 1):
    ax.imshow(np.asarray(x0[row]) / 2 + 0.5)
    ax.set_title(f"{rank}", fontsize=8)
for ax in axes:
    ax.set_axis_off()
fig.suptitle('which training pictures taught "red"?', fontsize=10)
fig.subplots_adjust(top=0.66, left=0.01, right=0.99, bottom=0.02)

# %% [markdown]
# ## Flax linen
# `eps_fn` is `apply` with its arguments in order. The trained weights are carried over.


# %%
class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, x, t, cond):
        h = linen.silu(linen.Dense(WIDTH, use_bias=False, name="a")(inputs(x, t, cond)))
        h = linen.silu(linen.Dense(WIDTH, use_bias=False, name="b")(h))
        return linen.Dense(PIXELS, use_bias=False, name="c")(h).reshape(x.shape)


network = LinenNetwork()
weights = {"params": {name: {"kernel": value} for name, value in params.items()}}
scores["Flax linen"] = answer(network.apply, weights)

# %% [markdown]
# ## Flax NNX
# `nnx.split` parts a model into its structure and its state. The state is the parameters.


# %%
class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(PIXELS + 12, WIDTH, use_bias=False, rngs=rngs)
        self.b = nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs)
        self.c = nnx.Linear(WIDTH, PIXELS, use_bias=False, rngs=rngs)

    def __call__(self, x, t, cond):
        h = nnx.silu(self.a(inputs(x, t, cond)))
        return self.c(nnx.silu(self.b(h))).reshape(x.shape)


model = NnxNetwork(nnx.Rngs(0))
for name, value in params.items():
    getattr(model, name).kernel[...] = value
structure, state = nnx.split(model, nnx.Param)


def nnx_fn(params, x, t, cond):
    return nnx.merge(structure, params)(x, t, cond)


scores["Flax NNX"] = answer(nnx_fn, state)

# %% [markdown]
# ## A module that is a pytree, as in Equinox
# There the parameters are the module, and the call is the network. The class below needs JAX alone.
# Of an Equinox module the arrays are taken apart from the rest first:
#
# ```python
# params, rest = eqx.partition(model, eqx.is_inexact_array)
# eps_fn = lambda params, x, t, cond: eqx.combine(params, rest)(x, t, cond)
# ```


# %%
@jax.tree_util.register_pytree_node_class
class Module:
    def __init__(self, a, b, c):
        self.a, self.b, self.c = a, b, c

    def tree_flatten(self):
        return (self.a, self.b, self.c), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)

    def __call__(self, x, t, cond):
        h = jax.nn.silu(inputs(x, t, cond) @ self.a)
        return (jax.nn.silu(h @ self.b) @ self.c).reshape(x.shape)


scores["a pytree"] = answer(lambda module, x, t, cond: module(x, t, cond), Module(**params))

# %% [markdown]
# ## The same lists

# %%
for name, found in scores.items():
    top = ct.top_k(found[None], k=10).samples[0]
    print(f"{name:10s} {top.tolist()}")

# %% [markdown]
# ## A network that predicts something else
# `ct.as_eps_fn` makes a noise prediction of a network that predicts the velocity (`"v"`) or the
# clean sample (`"x0"`). Everything else stays.


# %%
def clean_fn(params, x, t, cond):
    """The clean picture that the plain network's noise implies."""
    signal, noise = ct.schedule.level(schedule, t)
    return (x - noise * plain_fn(params, x, t, cond)) / signal


again = ct.as_eps_fn(clean_fn, schedule, "x0")
x, t = x0[0], 300
difference = again(params, x, t, cond[0]) - plain_fn(params, x, t, cond[0])
print("largest difference:", float(jnp.abs(difference).max()))

# %% [markdown]
# ## A part of the parameters
# Of a large network a part is differentiated, and features are projected. `ct.differentiable`
# chooses by patterns on the parameters' paths, and `ct.train_features` does the rest.

# %%
network, weights = ct.differentiable(plain_fn, params, include=["b", "c"])
recipe = ct.Recipe(schedule=schedule, grid=grid, projection=ct.Projection(k=256), seed=2)
batch = ct.TrainBatch(x0[:8], unnamed[:8], jnp.arange(8))
spec = ct.METHODS["concept-trak"].train._replace(condition="own")
features = ct.train_features(recipe, network, weights, [spec], batch).features
print(f"{weights.size:,} parameters of {sum(p.size for p in params.values()):,}", features.shape)

# %% [markdown]
# ## What to try next
# - Put your network and your pictures in place of these: `eps_fn`, `params`, `x0` and `cond`.
# - Ask about the shape: `minus` is then a red circle, and the shape must not be named.
# - Project: `ct.project(phi, ct.Projection(k=1024))` before the Fisher, for networks of millions of
#   parameters.
# - Keep features on disk and use several devices: [scaling](06_scaling.py).
