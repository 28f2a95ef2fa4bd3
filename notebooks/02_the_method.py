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
# # The method, on one sample
# The equations of the method beside the functions that compute them. A sample is a point in the
# plane, so that states, paths and guidance can be drawn. Everything holds for images without a
# change. Equations have the numbers of [the method](../docs/explanation/method.md).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import ctrak_jax as ct
from ctrak_jax.reward import Mixture, linearise
from ctrak_jax.schedule import add_noise, posterior_mean
from ctrak_jax.trajectory import ddim_step

plt.rcParams.update({"figure.dpi": 110, "axes.grid": True, "grid.alpha": 0.3})

# %% [markdown]
# ## Data: nine clusters, one of them held out
# Every point has two attributes, its side (left, middle, right) and its level (low, middle, high).
# No training point is right AND high. A condition is two one-hot blocks, and zeros say nothing.

# %%
seen = [(side, level) for side in range(3) for level in range(3) if (side, level) != (2, 2)]
values = np.array(seen * 40)  # [sample, (side, level)]
rng = np.random.default_rng(0)
x0 = 1.3 * (values - 1.0) + 0.18 * rng.standard_normal(values.shape)
x0 = jnp.asarray(x0, jnp.float32)


def condition(side, level):
    return jnp.concatenate([jax.nn.one_hot(side, 3), jax.nn.one_hot(level, 3)])


cond = jax.vmap(condition)(*values.T)
null = jnp.zeros(6)
right_high = condition(2, 2)

# %% [markdown]
# ## The network
# Any function `eps_fn(params, x, t, cond)` of ONE sample that predicts its noise $\epsilon(x_t, t,
# c; \theta)$. Here it is a small multilayer perceptron.


# %%
def layer(key, rows, columns):
    return {"w": jax.random.normal(key, (rows, columns)) / rows**0.5, "b": jnp.zeros(columns)}


def eps_fn(params, x, t, cond):
    angles = t / 1000 * jnp.pi * jnp.array([0.5, 1, 2, 4])
    h = jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles), cond])
    for i, part in enumerate(params):
        h = h @ part["w"] + part["b"]
        h = jax.nn.silu(h) if i < len(params) - 1 else h
    return h


sizes = [(16, 64), (64, 64), (64, 2)]
keys = jax.random.split(jax.random.key(0), 3)
params = [layer(key, *size) for key, size in zip(keys, sizes, strict=True)]

# %% [markdown]
# A sample is noised to $x_t$, and a prediction of the noise implies a clean sample, the posterior
# mean:
#
# $$
# x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1-\bar\alpha_t} n
# \tag{1.1}
# $$
#
# $$
# \hat x_0(x_t) = (x_t - \sqrt{1-\bar\alpha_t} \epsilon) / \sqrt{\bar\alpha_t}
# \tag{1.2}
# $$
#
# Training is the usual: predict the noise, and drop each attribute of the condition now and then.

# %%
schedule = ct.schedule.linear()
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 3000))


def loss_of(params, key):
    which, when, what, drop = jax.random.split(key, 4)
    rows = jax.random.randint(which, (256,), 0, len(x0))
    times = jax.random.randint(when, (256,), 0, schedule.steps)
    noise = jax.random.normal(what, (256, 2))
    kept = jnp.repeat(jax.random.bernoulli(drop, 0.85, (256, 2)), 3, axis=1)
    noised = jax.vmap(add_noise, (None, 0, 0, 0))(schedule, x0[rows], times, noise)
    found = jax.vmap(eps_fn, (None, 0, 0, 0))(params, noised, times, cond[rows] * kept)
    return jnp.mean((found - noise) ** 2)


def update(carry, key):
    params, state = carry
    loss, gradient = jax.value_and_grad(loss_of)(params, key)
    change, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, change), state), loss


train = jax.jit(lambda params, state, keys: jax.lax.scan(update, (params, state), keys))
keys = jax.random.split(jax.random.key(1), 3000)
(params, _), losses = train(params, optimizer.init(params), keys)
print(f"loss {losses[:50].mean():.3f} -> {losses[-200:].mean():.3f}")

# %% [markdown]
# The model is asked for what it never saw, "right and high". It combines the two attributes.

# %%
grid = ct.grid(steps=50, every=5)
noise = jax.random.normal(jax.random.key(2), (200, 2))
drawn = jax.vmap(lambda n: ct.sample(eps_fn, params, schedule, grid, n, right_high))(noise)
is_right = values[:, 0] == 2
fig, ax = plt.subplots(figsize=(4.6, 4.2))
ax.scatter(*x0[~is_right].T, s=9, c="0.6", label="training")
ax.scatter(*x0[is_right].T, s=9, c="C3", label="training, right")
ax.scatter(*drawn.x0.T, s=9, c="k", alpha=0.5, label='generated, "right and high"')
ax.set(xlabel="side", ylabel="level", xlim=(-2.2, 2.2), ylim=(-2.2, 2.8))
ax.legend(fontsize=8, loc="upper center", ncols=2, frameon=False)
fig.tight_layout()

# %% [markdown]
# ## A question is a sample and one concept
# The question: which training points taught "right" in this generated point? The influence of
# training sample $i$ on question $q$ is
#
# $$
# I(i, q) = \nabla_\theta L_q(\theta)^\top (F + \lambda I)^{-1} \nabla_\theta L_i(\theta)
# \tag{1.4}
# $$
#
# It needs the states $x_t$ that gradients are taken at, a loss $L_q$ of the concept, a loss $L_i$
# of the training sample, and the Fisher $F$.

# %%
x_query = drawn.x0[jnp.argmin(jnp.sum((drawn.x0 - 1.3) ** 2, axis=1))]
c = right_high  # and without the concept "right": left or middle, each counting alike
c_minus = Mixture(jnp.stack([condition(0, 2), condition(1, 2)]), jnp.array([0.5, 0.5]))
print("the generated point:", np.round(x_query, 2))

# %% [markdown]
# ## States: inversion of the question's sample
# One DDIM step leads from $t_j$ up to $t_{j+1}$, or down:
#
# $$
# x_{t_{j'}} = \sqrt{\bar\alpha_{t_{j'}}} \hat x_0(x_{t_j}) + \sqrt{1-\bar\alpha_{t_{j'}} -
# \sigma^2} \epsilon_j + \sigma z
# \tag{4.1}
# $$
#
# With $\sigma = 0$ it is a deterministic map. `ct.invert` walks up the grid and records every fifth
# state. Below it is repeated step by step.

# %%
query_path = ct.invert(eps_fn, params, schedule, grid, x_query, c)
x, by_hand = x_query, []
for t, t_next in zip(grid.times[:-1], grid.times[1:], strict=True):
    x = ddim_step(schedule, x, eps_fn(params, x, t, c), t, t_next)
    by_hand.append(x)
by_hand = jnp.stack(by_hand)[4::5][: grid.kept]
print("timesteps:", grid.recorded)
print("largest difference:", float(jnp.abs(by_hand - query_path.x).max()))

# %% [markdown]
# The published method inverts training samples, too, and guides their paths against a negative
# condition $c'$:
#
# $$
# \tilde\epsilon = \epsilon(x, c') + g (\epsilon(x, c) - \epsilon(x, c'))
# \tag{4.3}
# $$
#
# By default the states of training samples are forward noise, equation (1.1), which costs no
# inversion.


# %%
def inversion(x0, cond, guidance=None):
    return ct.invert(eps_fn, params, schedule, grid, x0, cond, guidance=guidance).x


fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.5))
axes[0].plot(*jnp.vstack([x_query, query_path.x]).T, "k.-", lw=1)
axes[0].set_title("the question, under its condition", fontsize=9)
for i, shade in zip((0, 2, 6, 7), ("C0", "C1", "C2", "C4"), strict=True):
    plain = inversion(x0[i], cond[i])
    other_side = condition((values[i, 0] + 1) % 3, values[i, 1])
    led = inversion(x0[i], cond[i], ct.Guidance(2.0, other_side))
    axes[1].plot(*jnp.vstack([x0[i], plain]).T, ".-", c=shade, lw=1)
    axes[1].plot(*jnp.vstack([x0[i], led]).T, ".--", c=shade, lw=1, alpha=0.6)
    noised = ct.forward_path(schedule, x0[i], grid.recorded, jax.random.key(i)).x
    axes[2].plot(*jnp.vstack([x0[i], noised]).T, ".", c=shade)
    axes[2].plot(*x0[i], "o", c=shade, mec="k")
axes[1].set_title("training: plain, and guided (dashed)", fontsize=9)
axes[2].set_title("training: forward noise (circle: clean)", fontsize=9)
for ax in axes:
    ax.set_xlabel("side")
axes[0].set_ylabel("level")
fig.tight_layout()

# %% [markdown]
# ## The concept's loss
# For a reward $R$ the loss pulls the prediction towards the shifted one, and its gradient is a
# vector-Jacobian product:
#
# $$
# L_R(\theta) = \frac{1}{D} \Vert \mathrm{sg}[\epsilon(x_t, c) + \delta] - \epsilon(x_t, c)
# \Vert^2, \qquad
# \delta = -w_t \nabla_x R(x_t)
# \tag{2.1}
# $$
#
# $$
# \nabla_\theta L_R = u^\top \frac{\partial\epsilon}{\partial\theta}, \qquad u = -\frac{2}{D} \delta
# \tag{2.2}
# $$
#
# The concept's reward is the log-probability of "right". By Bayes' rule its shift is the difference
# of two predictions, a slider:
#
# $$
# \delta = \lambda_c \Bigl( \epsilon(x_t, c) - \sum_v p_v \epsilon(x_t, c_v) \Bigr)
# \tag{2.6}
# $$
#
# A loss in the code is the function that gives the cotangent $u$. Both forms of the gradient agree.

# %%
x, t = query_path.x[1], query_path.t[1]
step = linearise(eps_fn, params, x, t, c)


def shift(x, t):
    """delta of equation (2.6)."""
    others = jax.vmap(lambda c_v: eps_fn(params, x, t, c_v))(c_minus.conditions)
    return eps_fn(params, x, t, c) - c_minus.weights @ others


delta = shift(x, t)
print("u by the equations", -2 / x.size * delta)
print("u by ct.slider    ", ct.slider(c_minus)(step))

by_grad = jax.grad(lambda p: ct.reward_loss(eps_fn(p, x, t, c), delta))(params)
by_vjp = ct.step_gradient(ct.slider(c_minus), eps_fn, params, x, t, c)
pairs = zip(jax.tree.leaves(by_grad), jax.tree.leaves(by_vjp), strict=True)
print("largest difference of (2.1) and (2.2):", max(float(jnp.abs(a - b).max()) for a, b in pairs))

# %% [markdown]
# The guidance vectors: $-\delta$ is the direction in which the concept's reward grows. For "right"
# it points to the right.

# %%
side, level = jnp.meshgrid(jnp.linspace(-1.9, 1.9, 13), jnp.linspace(-1.9, 1.9, 13))
plane = jnp.stack([side.ravel(), level.ravel()], axis=1)
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), sharey=True)
for ax, t in zip(axes, (99, 299, 599), strict=True):
    arrows = -jax.vmap(shift, (0, None))(plane, t)
    ax.scatter(*x0.T, s=3, c="0.7")
    ax.quiver(*plane.T, *arrows.T, color="C3", angles="xy", width=0.005)
    ax.plot(*query_path.x[list(query_path.t).index(t)], "k*", ms=11)
    ax.set(title=f"t = {t}", xlabel="side")
axes[0].set_ylabel("level")
fig.suptitle('guidance towards "right"; star: the state of the question', fontsize=10)
fig.tight_layout()

# %% [markdown]
# ## The training sample's loss
# The reward is that the posterior mean is the sample itself, as in diffusion posterior sampling.
# Its shift goes through the network:
#
# $$
# \nabla_x R(\hat x_0(x_t)) = \Bigl( r - \sqrt{1-\bar\alpha_t}
# \Bigl(\frac{\partial\epsilon}{\partial x_t}\Bigr)^\top r \Bigr) / \sqrt{\bar\alpha_t}
# \tag{2.3}
# $$
#
# $$
# \delta = \nabla_x \frac{1}{D} \Vert \hat x_0(x_t) - x_0 \Vert^2
# \tag{2.4}
# $$

# %%
i, t = 2, 299
x = add_noise(schedule, x0[i], t, jnp.array([-0.7, 0.9]))


def distance(x):
    found = posterior_mean(schedule, x, t, eps_fn(params, x, t, null))
    return jnp.mean((found - x0[i]) ** 2)


u = ct.dps(schedule, x0[i])(linearise(eps_fn, params, x, t, null))
print("u by jax.grad of (2.4)", -2 / x.size * jax.grad(distance)(x))
print("u by ct.dps           ", u)

# %% [markdown]
# ## One gradient per sample
# The gradients of a sample's states are normalised and summed:
#
# $$
# g_t = u_t^\top \frac{\partial\epsilon(x_t)}{\partial\theta}, \qquad
# \bar g_t = g_t / \Vert g_t \Vert_2 \text{ (0 stays 0)}, \qquad
# g = \sum_t g_t \text{ or } \sum_t \bar g_t
# \tag{4.4}
# $$
#
# The states are the three of least noise. A training sample is denoised under its condition WITHOUT
# the attribute asked about, so that its label cannot answer. `jax.vmap` makes the batch.

# %%
near = ct.grid(steps=50, every=5, kept=3)
unnamed = cond * jnp.array([0.0, 0, 0, 1, 1, 1])  # the side is not named


def train_gradient(x0, cond, index):
    path = ct.forward_path(
        schedule, x0, near.recorded, jax.random.fold_in(jax.random.key(3), index)
    )
    return ct.sample_gradient(ct.dps(schedule, x0), eps_fn, params, path, cond, normalise=True)


def concept_gradient(x0):
    path = ct.invert(eps_fn, params, schedule, near, x0, c)
    return ct.sample_gradient(ct.slider(c_minus), eps_fn, params, path, c, normalise=True)


index = jnp.arange(len(x0))
gradients = ct.flatten_samples(jax.jit(jax.vmap(train_gradient))(x0, unnamed, index))
query_gradient = ct.flatten_samples(jax.jit(jax.vmap(concept_gradient))(x_query[None]))
print("training gradients", gradients.shape, " the question's", query_gradient.shape)

# %% [markdown]
# ## Projection
# A gradient becomes a feature of $k$ numbers. Inner products stay the same in expectation:
#
# $$
# \phi = R^\top g, \qquad E \langle R^\top g, R^\top h \rangle = \langle g, h \rangle
# \tag{5.1}
# $$

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.6), sharey=True, sharex=True)
exact = np.asarray(gradients @ query_gradient[0])
for ax, k in zip(axes, (64, 1024), strict=True):
    projection = ct.Projection(k=k)
    phi, phi_q = ct.project(gradients, projection), ct.project(query_gradient, projection)
    ax.scatter(exact, phi @ phi_q[0], s=6)
    ax.axline((0, 0), slope=1, c="k", lw=0.8)
    ax.set(title=f"k = {k}", xlabel="inner product of gradients")
axes[0].set_ylabel("of features")
fig.tight_layout()

# %% [markdown]
# ## Fisher and scores
#
# $$
# G = \sum_i \phi_i \phi_i^\top, \qquad \lambda = 0.1 r \mathrm{tr}(G) / k, \qquad (G + \lambda I)
# z = \phi_q
# \tag{5.10}
# $$
#
# $$
# I(i, q) = w_i \phi_i^\top (G + \lambda I)^{-1} \phi_q
# \tag{5.11}
# $$

# %%
gram = ct.fisher.update(ct.fisher.init(1024), phi)  # streams over batches
z = ct.fisher.cholesky(gram, phi_q, [100.0])[0]
scores = ct.influence(phi, z)[0]
ranking = ct.top_k(scores[None], k=10)
print("precision@10:", ct.precision_at_k(ranking.samples[0], is_right, k=10))
print("base rate:   ", is_right.mean().round(2))

# %% [markdown]
# TRAK asks about the sample as a whole: its loss is the training loss for both sides, on forward
# noise.


# %%
def trak_gradient(x0, cond, index):
    path = ct.forward_path(
        schedule, x0, near.recorded, jax.random.fold_in(jax.random.key(3), index)
    )
    return ct.sample_gradient(ct.dsm(schedule, x0), eps_fn, params, path, cond, normalise=False)


whole = jax.jit(jax.vmap(trak_gradient))
phi_trak = ct.project(ct.flatten_samples(whole(x0, unnamed, index)), projection)
trak_q = whole(x_query[None], c[None], jnp.array([9999]))
trak_q = ct.project(ct.flatten_samples(trak_q), projection)
z = ct.fisher.cholesky(ct.fisher.update(ct.fisher.init(1024), phi_trak), trak_q, [100.0])[0]
trak_scores = ct.influence(phi_trak, z)[0]

fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.8), sharey=True)
for ax, (name, found) in zip(
    axes, {"Concept-TRAK": scores, "TRAK": trak_scores}.items(), strict=True
):
    most = float(jnp.abs(found).max())
    dots = ax.scatter(*x0.T, c=found / most, s=14, cmap="coolwarm", vmin=-1, vmax=1)
    best = ct.top_k(found[None], k=10).samples[0]
    ax.scatter(*x0[best].T, s=45, facecolors="none", edgecolors="k", label="top 10")
    ax.plot(*x_query, "k*", ms=13, label="the question")
    precision = ct.precision_at_k(best, is_right, k=10)
    ax.set(title=f'{name}: "right" in {precision:.0%} of the top 10', xlabel="side")
axes[0].set_ylabel("level")
axes[0].legend(fontsize=8)
_ = fig.colorbar(dots, ax=axes, label="score / largest", fraction=0.03)

# %% [markdown]
# ## The sign of a score
# A positive score promises that a training step on that sample lowers the concept's loss. Here are
# real steps: the ten best and the ten worst samples each move the parameters a little against their
# gradients.


# %%
def concept_loss(moved):
    """(2.1) along the question's path; the shifted predictions stay those of the model as it is."""

    def at(x, t):
        wanted = eps_fn(params, x, t, c) + shift(x, t)
        return jnp.mean((wanted - eps_fn(moved, x, t, c)) ** 2)

    return jax.vmap(at)(query_path.x[:3], query_path.t[:3]).mean()


def after_steps_on(samples, size=1e-3):
    found = jax.vmap(train_gradient)(x0[samples], unnamed[samples], samples)
    return jax.tree.map(lambda p, g: p - size * g.mean(0), params, found)


order = jnp.argsort(-scores)
before = concept_loss(params)
for name, samples in {"the ten best": order[:10], "the ten worst": order[-10:]}.items():
    change = concept_loss(after_steps_on(samples)) - before
    print(f"{name}: the concept's loss changes by {change:+.2e}")

# %% [markdown]
# ## What to try next
# - Ask about "high" in the same point: `c_minus` is then right and low or middle, and the level
#   must not be named.
# - Set `normalise=False` in both gradients, which is one step of the paper's ablation.
# - Denoise training samples under `cond` instead of `unnamed`: the labels then help, and the
#   precision says less.
# - Put [a network of your own](03_your_own_network.py) in place of `eps_fn`.
