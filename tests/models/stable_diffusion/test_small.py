"""A small Stable Diffusion trained from scratch: its tokens, its folder, its training."""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import devices
from ctrak_jax import schedule as schedules
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.checkpoints import DIFFUSERS, TRANSFORMERS
from ctrak_jax.models.rows import one_product_a_layer
from ctrak_jax.models.stable_diffusion import fit, save, small
from ctrak_jax.models.stable_diffusion import small_training as stage
from ctrak_jax.models.stable_diffusion.small_training import (
    FitSpec,
    SmallTraining,
    train_text_to_image,
)
from ctrak_jax.models.tokenizers import clip_tokenizer, tokenizer_files, vocabulary
from ctrak_jax.models.training import OptimizerSpec, Progress, Trainer, TrainState
from ctrak_jax.schedule import add_noise

MERGES = ("r e", "re d</w>", "s k", "sk y</w>", "a n", "an d</w>", "an</w> d")
WORDS = vocabulary.derive(MERGES)
SIZE = small.Size(
    image=8,
    autoencoder=(8, 8),
    autoencoder_groups=4,
    unet=(32,),
    heads=2,
    text_width=16,
    text_layers=1,
    text_heads=2,
    tokens=8,
)
# AdamW: Muon takes most of the time to compile; tests/test_training.py has what it moves.
SETTINGS = SmallTraining(
    size=SIZE,
    autoencoder=FitSpec(OptimizerSpec(120, 5e-3, 5e-3, "adamw", warmup=5), 8, 0.9),
    denoiser=FitSpec(OptimizerSpec(200, 5e-3, 5e-3, "adamw", warmup=5), 8, 0.9),
    kl=1e-4,
    prediction="v",
    scan=20,
    checkpoint_every=40,
)
CAPTIONS = ["red sky", "sky", "red and sky", ""] * 4


def images() -> np.ndarray:
    """Flat colours with a little noise, one a caption."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 1, 1, 3))
    noisy = colours[np.arange(16) % 4] + rng.integers(-5, 6, (16, 8, 8, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def generator():
    """One that compiles fast: threefry's code, unrolled for each parameter, takes as long to
    compile as a training step."""
    before = getattr(jax.config, "jax_default_prng_impl")  # noqa: B009
    jax.config.update("jax_default_prng_impl", "rbg")
    yield
    jax.config.update("jax_default_prng_impl", before)


def train(folder: Path, settings: SmallTraining = SETTINGS, seed: int = 0) -> None:
    mesh = devices.local_mesh(1)
    train_text_to_image(folder, images(), CAPTIONS, settings, seed, words=WORDS, mesh=mesh)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "model"
    train(folder)
    return folder


def random_like(init: Any) -> Any:
    rng, shapes = np.random.default_rng(1), jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)


def equal(one: Any, other: Any) -> bool:
    assert parameter_paths(one) == parameter_paths(other)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def everything(folder: Path) -> list[Any]:
    codecs = sd.load_codecs(folder)
    return [sd.load(folder).denoiser.params, codecs.text.params, codecs.image.params]


# The vocabulary


def test_numbers_of_a_small_vocabulary_are_in_clips_order():
    numbers = WORDS.numbers
    assert [*numbers.values()] == list(range(len(numbers)))
    assert len(numbers) == 512 + len(MERGES) + 2
    # Printed bytes of Latin-1 first; then the others, from byte 0 on.
    assert [numbers[c] for c in "!~¡¬®ÿ"] == [0, 93, 94, 105, 106, 187]
    assert [numbers[chr(256 + n)] for n in (0, 32, 67)] == [188, 220, 255]
    assert [numbers[f"{c}</w>"] for c in "!ÿ"] == [256, 256 + 187]
    assert [numbers[token] for token in ("re", "red</w>", "sk", "sky</w>")] == [512, 513, 514, 515]
    assert numbers["<|endoftext|>"] == numbers["<|startoftext|>"] + 1 == len(numbers) - 1


def test_texts_become_tokens_by_the_merges(tmp_path):
    save.save_tokenizer(tmp_path, WORDS, 8)
    tokens = clip_tokenizer(tokenizer_files(tmp_path), 8)
    start, end = len(WORDS.numbers) - 2, len(WORDS.numbers) - 1
    n = WORDS.numbers
    assert tokens("").tolist() == [start] + [end] * 7
    assert tokens("Red sky").tolist() == [start, n["red</w>"], n["sky</w>"], *[end] * 5]
    assert tokens("reed").tolist() == [start, n["re"], n["e"], n["d</w>"], *[end] * 4]
    assert tokens("red " * 20).tolist() == [start, *[n["red</w>"]] * 6, end]


@pytest.fixture(scope="module")
def clip() -> vocabulary.Vocabulary:
    try:
        return vocabulary.read(vocabulary.library())
    except UsageError as error:
        pytest.skip(f"needs CLIP's vocabulary ({error})")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A diagram, 2 dogs!", [320, 22697, 267, 273, 3255, 256]),
        ("hello world", [3306, 1002]),
    ],
)
def test_clips_own_numbers(clip, tmp_path, text, numbers):
    assert len(clip.numbers) == 49_408
    save.save_tokenizer(tmp_path, clip, 32)
    found = clip_tokenizer(tokenizer_files(tmp_path), 32)(text)
    assert found.tolist() == [49406, *numbers, *[49407] * (31 - len(numbers))]


def test_a_vocabulary_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    missing = tmp_path / "none.txt.gz"
    monkeypatch.setenv("CLIP_VOCABULARY_PATH", str(missing))
    with pytest.raises(UsageError, match=r"none\.txt\.gz.*make vocabulary"):
        vocabulary.library()
    missing.write_bytes(b"no gzip")
    assert vocabulary.library() == missing
    with pytest.raises(UsageError, match="cannot be read"):
        vocabulary.read(missing)
    whole = gzip.compress(b"version\na b\n")
    missing.write_bytes(whole[:10] + b"\xff" * (len(whole) - 10))
    with pytest.raises(UsageError, match="cannot be read"):
        vocabulary.read(missing)
    missing.write_bytes(whole)
    with pytest.raises(UsageError, match="48,894 pairs"):
        vocabulary.read(missing)


# The folder


def test_what_is_saved_is_what_loads(tmp_path):
    unet = sd.unet_of(small.unet_config(SIZE), tmp_path, sd.FLOAT32)
    text_config = small.text_config(SIZE, len(WORDS.numbers))
    save.save_tokenizer(tmp_path / "tokenizer", WORDS, SIZE.tokens)
    text = sd.text_encoder_of(text_config, tmp_path, tokenizer_files(tmp_path / "tokenizer"))
    image = sd.autoencoder_of(small.autoencoder_config(SIZE, 0.7), tmp_path)
    params = [random_like(network.init) for network in (unet, text, image)]
    diffusers, transformers = DIFFUSERS, TRANSFORMERS
    save.save_part(tmp_path / "unet", small.unet_config(SIZE), params[0], diffusers)
    save.save_part(tmp_path / "text_encoder", text_config, params[1], transformers)
    save.save_part(tmp_path / "vae", small.autoencoder_config(SIZE, 0.7), params[2], diffusers)
    noise = save.save_noise(tmp_path / "scheduler", "cosine", 100, "v")
    with pytest.raises(UsageError, match=r"model_index\.json is missing"):
        sd.load(tmp_path)
    save.save_index(tmp_path)
    for found, given in zip(everything(tmp_path), params, strict=True):
        assert equal(found, given)
    model, codecs = sd.load(tmp_path), sd.load_codecs(tmp_path)
    assert model.noise.prediction == noise.prediction == "v"
    assert np.array_equal(model.noise.schedule.signal, noise.schedule.signal)
    assert model.noise.schedule.steps == 100
    assert codecs.image.network.scale == 0.7
    assert model.network.latent_shape == (SIZE.latent, SIZE.latent, 4)


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [
        ("linear", schedules.linear),
        ("scaled-linear", schedules.scaled_linear),
        ("cosine", schedules.cosine),
    ],
)
def test_noise_is_the_schedules_own(tmp_path, kind, schedule):
    found = save.save_noise(tmp_path, kind, 50, "eps").schedule.signal
    np.testing.assert_array_equal(found, schedule(steps=50).signal)


# Training


def in_range() -> jax.Array:
    return jnp.asarray(images() / 127.5 - 1.0, jnp.float32)


@pytest.mark.slow
def test_the_autoencoder_gives_images_back_and_its_latents_have_unit_variance(whole):
    network, params = (part := sd.load_codecs(whole).image).network, part.params
    x = in_range()
    latents = jax.vmap(network.encode, (None, 0))(params, x)
    assert float(latents.std()) == pytest.approx(1.0, rel=1e-3)
    found = jax.vmap(network.decode, (None, 0))(params, latents)
    assert float(jnp.abs(found - x).mean()) < 0.3 * float(jnp.abs(x - x.mean()).mean())


@pytest.mark.slow
def test_the_denoiser_predicts_noise_and_its_captions_tokens_have_moved(whole):
    model, codecs = sd.load(whole), sd.load_codecs(whole)
    assert model.noise.prediction == SETTINGS.prediction == "v"
    network, params = codecs.text.network, codecs.text.params
    latents = jax.vmap(codecs.image.network.encode, (None, 0))(codecs.image.params, in_range())
    tokens = np.stack([network.tokens(caption) for caption in CAPTIONS])
    conds = jax.vmap(network.apply, (None, 0))(params, tokens)
    noises = jax.random.normal(jax.random.key(3), latents.shape)
    schedule, t = model.noise.schedule, jnp.int32(300)
    noisy = jax.vmap(add_noise, (None, 0, None, 0))(schedule, latents, t, noises)
    predict = jax.jit(jax.vmap(model.denoiser.eps_fn, (None, 0, None, 0)))
    found = predict(model.denoiser.params, noisy, t, conds)
    assert float(jnp.mean((found - noises) ** 2)) < 0.5  # predicting nothing: 1

    run = stage._Run(whole, SETTINGS, 0, {}, devices.local_mesh(1))
    first = jax.jit(network.init)(run.key(4))
    embedding = ("text_model", "embeddings", "token_embedding", "embedding")
    before, after = (
        functools.reduce(lambda p, name: p[name], embedding, p) for p in (first, params)
    )
    moved = np.flatnonzero(np.abs(np.asarray(after - before)).max(1) > 1e-6)
    assert moved.tolist() == np.unique(tokens).tolist()


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_training_stopped_in_either_part_goes_on_to_the_same_model(whole, tmp_path, monkeypatch):
    folder, real, parts = tmp_path / "model", stage.checkpointed, ["autoencoder", "denoiser"]

    def stopping(trainer: Any, params: Any, batches: Any, *args: Any, **kwargs: Any) -> Any:
        def until_it_is_stopped(first: int, count: int) -> Any:
            if kwargs["folder"].name in parts and first >= 80:
                raise Stopped
            return batches(first, count)

        return real(trainer, params, until_it_is_stopped, *args, **kwargs)

    monkeypatch.setattr(stage, "checkpointed", stopping)
    for part in ("autoencoder", "denoiser"):
        with pytest.raises(Stopped):
            train(folder)
        assert [path.name for path in (folder / "training").iterdir()] == [part]
        assert any(path.name.isdigit() for path in (folder / "training" / part).iterdir())
        assert not (folder / "model_index.json").exists()
        with pytest.raises(StoreError, match="seed differ"):
            train(folder, seed=1)
        parts.remove(part)
    train(folder)
    assert not (folder / "training").exists()
    for found, expected in zip(everything(folder), everything(whole), strict=True):
        assert equal(found, expected)


@pytest.mark.slow
def test_a_finished_model_is_left_alone(whole, monkeypatch):
    monkeypatch.setattr(stage, "_autoencoder", lambda *_: pytest.fail("trained again"))
    train(whole)
    train(whole, SETTINGS._replace(scan=3, checkpoint_every=3))
    with pytest.raises(StoreError, match="settings differ"):
        train(whole, SETTINGS._replace(kl=0.5))


@pytest.mark.slow
def test_layers_as_one_product_give_every_part_the_same_gradient(whole):
    denoiser, codecs = sd.load(whole).denoiser, sd.load_codecs(whole)
    text, autoencoder = codecs.text, codecs.image
    tokens = np.stack([text.network.tokens(caption) for caption in CAPTIONS[:3]])
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((3, SIZE.latent, SIZE.latent, SIZE.latent_channels), np.float32)

    def loss(params: Any) -> Any:
        def one(tokens: Any, latent: Any, t: Any, image: Any) -> Any:
            cond = text.network.apply(params["text"], tokens)
            eps = denoiser.eps_fn(params["unet"], latent, t, cond)
            found = autoencoder.network.posterior(params["vae"], image)
            back = autoencoder.network.decode(params["vae"], found.mean)
            return jnp.mean(eps**2) + jnp.mean(back**2)

        times = jnp.array([10, 500, 900])
        return jnp.mean(jax.vmap(one)(tokens, latents, times, to_unit(images()[:3])))

    def together(params: Any) -> Any:
        with one_product_a_layer():
            return loss(params)

    params = {"text": text.params, "unet": denoiser.params, "vae": autoencoder.params}
    plain, flat = jax.jit(jax.grad(loss))(params), jax.jit(jax.grad(together))(params)
    for path, a, b in zip(
        parameter_paths(params), jax.tree.leaves(plain), jax.tree.leaves(flat), strict=True
    ):
        np.testing.assert_allclose(b, a, atol=1e-4 * float(jnp.abs(a).max()) + 1e-9, err_msg=path)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, monkeypatch):
    def hopeless(*_: Any, **__: Any) -> Trainer:
        def run(state: TrainState, *_: Any) -> Progress:
            return Progress(state, jnp.float32(jnp.inf))

        return Trainer(lambda params: TrainState(params, params, (), jnp.int32(0)), run)

    monkeypatch.setattr(fit, "autoencoder_trainer", hopeless)
    with pytest.raises(StoreError, match=r"inf before step 20; lower autoencoder\.learning_rate"):
        train(tmp_path / "model")


def test_a_folder_of_something_else_is_not_written_to(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(StoreError, match=r"inputs\.json is missing"):
        train(tmp_path / "model")
    assert not [*(tmp_path / "model").iterdir()]


@pytest.mark.parametrize(
    ("size", "captions", "settings", "message"),
    [
        (4, CAPTIONS, SETTINGS, "4 x 4, the model is made for 8 x 8"),
        (8, CAPTIONS[1:], SETTINGS, "15 captions for 16 images"),
        (7, CAPTIONS, SETTINGS._replace(size=SIZE._replace(image=7)), "must be a multiple of 2"),
        (
            8,
            CAPTIONS,
            SETTINGS._replace(denoiser=FitSpec(OptimizerSpec(6, 1e-2, 1e-2), 7)),
            r"train\.batch=7 must be a multiple of the 2 devices",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, size, captions, settings, message):
    pixels = images()[:, :size, :size]
    with pytest.raises(UsageError, match=message):
        train_text_to_image(
            tmp_path / "m", pixels, captions, settings, 0, words=WORDS, mesh=devices.local_mesh(2)
        )
    assert not (tmp_path / "m").exists()


def test_configs_are_json():
    for config in (small.unet_config(SIZE), small.text_config(SIZE, 9)):
        assert json.loads(json.dumps(config)) == config
