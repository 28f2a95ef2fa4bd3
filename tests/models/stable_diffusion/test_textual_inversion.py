"""Tokens of one's own: their files, their place in the text encoder, their training."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import select
from ctrak_jax.models.stable_diffusion import CLIPText, Component
from ctrak_jax.models.stable_diffusion import textual_inversion as ti
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings
from ctrak_jax.models.text_encoders import clip_text_of
from ctrak_jax.models.tokenizers import clip_tokenizer, tokenizer_files
from ctrak_jax.typing import Array
from tests.paths import FIXTURES
from tests.tiny_model import TEXT, VOCABULARY, random_like, write

BIN = FIXTURES / "learned_embeds.bin"
RAMP = np.arange(96, dtype=np.float32).reshape(3, 32) / 64
SCHEDULE = schedules.scaled_linear()
SHAPE = (2, 2, 1)
ABC, START, END = 8, 10, 11


def encoder_of(folder: Path, rows: int = 12) -> Component[CLIPText]:
    """A small text encoder with random weights; its table has ``rows`` rows for 12 tokens."""
    tokens = [*VOCABULARY, "<|startoftext|>", "<|endoftext|>"]
    write(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\na b\nab c</w>\n")
    config = TEXT | {"vocab_size": rows, "max_position_embeddings": 12}
    module = clip_text_of(config, folder).module
    network = CLIPText(module, clip_tokenizer(tokenizer_files(folder), 12), 12, 32)
    template = jax.eval_shape(network.init, jax.random.key(0))
    return Component(network, jax.tree.map(jnp.asarray, random_like(template, 1)))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Component[CLIPText]:
    return encoder_of(tmp_path_factory.mktemp("tokenizer"))


def table(text: Component[CLIPText]) -> np.ndarray:
    return np.asarray(select(text.params, (ti.TABLE,)).params[ti.TABLE])


def condition(text: Component[CLIPText], prompt: str) -> Array:
    return text.network.apply(text.params, text.network.tokens(prompt))


# Files


def test_a_file_of_pytorch_is_read():
    found = load_embeddings(BIN)
    assert list(found) == ["<ramp>", "<half>", "<turned>"]
    for values, expected in zip(found.values(), (RAMP[:1], RAMP[1:], RAMP[1:]), strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=2**-8)
    np.testing.assert_array_equal(found["<ramp>"], RAMP[:1])


@pytest.mark.parametrize("vectors", [1, 3])
def test_saved_embeddings_come_back(tmp_path, vectors):
    file = tmp_path / "learned_embeds.safetensors"
    ti.save_embedding(file, "<ramp>", jnp.asarray(RAMP[:vectors]))
    (found,) = load_embeddings(file).items()
    assert found[0] == "<ramp>"
    np.testing.assert_array_equal(found[1], RAMP[:vectors])


def test_half_precision_is_read(tmp_path):
    rows = {"<x>": RAMP.astype(np.float16), "<y>": np.asarray(jnp.asarray(RAMP, jnp.bfloat16))}
    save_file(rows, tmp_path / "x.safetensors")
    for values in load_embeddings(tmp_path / "x.safetensors").values():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, RAMP, rtol=2**-8)


def archive(file: Path, content: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("x/data.pkl", content)
        for key, values in storages.items():
            out.writestr(f"x/data/{key.removeprefix('_')}", values)
    return file


class Call:
    """Pickles as the call of a function by its name."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


def tensor(shape: bytes, strides: bytes, offset: bytes = b"K\x00") -> bytes:
    """A pickle of one tensor over a storage of four floats."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"\x80\x02}X\x01\x00\x00\x00x"
        + rebuild
        + b"("
        + storage
        + offset
        + shape
        + strides
        + b"\x89"
        + hooks
        + b"tRs."
    )


FLOATS = np.arange(4, dtype=np.float32).tobytes()


def test_a_tensor_within_its_storage_is_read_and_one_beyond_it_is_not(tmp_path):
    file = archive(tmp_path / "x.bin", tensor(b"K\x02K\x02\x86", b"K\x01K\x02\x86"), _0=FLOATS)
    np.testing.assert_array_equal(load_embeddings(file)["x"], [[0, 2], [1, 3]])
    beyond = [
        tensor(b"K\x05\x85", b"K\x01\x85"),
        tensor(b"K\x02\x85", b"K\x04\x85"),
        tensor(b"K\x04\x85", b"K\x01\x85", b"K\x01"),
        tensor(b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
        tensor(b"K\x02\x85", b"K\x01\x85", b"J\xff\xff\xff\xff"),
        tensor(b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        tensor(b"K\x00\x85", b"K\x01\x85"),
    ]
    for number, content in enumerate(beyond):
        file = archive(tmp_path / f"{number}.bin", content, _0=FLOATS)
        with pytest.raises(UsageError, match=r"reaches beyond its 4 numbers"):
            load_embeddings(file)


def test_a_pickle_that_calls_anything_else_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"
    for function, given in [(Path.touch, (trace,)), (eval, ("1",)), (getattr, ("", "join"))]:
        file = archive(tmp_path / "x.bin", pickle.dumps({"x": Call(function, *given)}, 2))
        with pytest.raises(UsageError, match=r"x\.bin: its pickle asks for .*not run; take the"):
            load_embeddings(file)
    for protocol in range(6):
        file = archive(tmp_path / "x.bin", pickle.dumps(np.ones(3), protocol))
        with pytest.raises(UsageError, match=r"its pickle asks for \w+\.|cannot be read"):
            load_embeddings(file)
    assert not trace.exists()


def test_a_pickle_cannot_change_the_functions_of_the_reader(tmp_path):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    spoil = b"\x80\x02" + rebuild + b"N}X\x0c\x00\x00\x00__defaults__)s\x86b0}."
    with pytest.raises(UsageError):
        load_embeddings(archive(tmp_path / "x.bin", spoil))
    np.testing.assert_array_equal(load_embeddings(BIN)["<ramp>"], RAMP[:1])


@pytest.mark.parametrize("content", [b"r\xff\xff\xff\x7f.", b"B\xff\xff\xff\x7f."])
def test_sizes_beyond_the_pickle_are_not_believed(tmp_path, content):
    file = archive(tmp_path / "x.bin", b"\x80\x02}" + content)
    with pytest.raises(UsageError, match=r"cannot be read as PyTorch's tensors"):
        load_embeddings(file)


@pytest.mark.parametrize("cut", [10, 200, 700, 1200])
def test_a_damaged_file_is_refused(tmp_path, cut):
    whole = BIN.read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:cut])
    (tmp_path / "cut.safetensors").write_bytes(whole[:cut])
    for name, message in [
        ("cut.bin", "is neither a zip archive|cannot be read"),
        ("cut.safetensors", "is neither a zip archive|cannot be read"),
    ]:
        with pytest.raises(UsageError, match=message):
            load_embeddings(tmp_path / name)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.bin is missing; expected learned_embeds"):
        load_embeddings(tmp_path / "none.bin")
    (tmp_path / "old.bin").write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(
        UsageError, match=r"old\.bin: it is neither a zip archive.*torch\.save\(torch\.load"
    ):
        load_embeddings(tmp_path / "old.bin")
    for content, message in [
        ({}, "holds no tensors by their token"),
        ([1], "holds no tensors by their token"),
        ({"x": "y"}, "'x' is str, expected a token's vectors"),
    ]:
        with pytest.raises(UsageError, match=message):
            load_embeddings(archive(tmp_path / "x.bin", pickle.dumps(content, 2)))
    for value, message in [
        (np.ones((2, 2, 2)), r"'x' is shaped \(2, 2, 2\), expected"),
        (np.full(3, np.nan), r"of 'x' are empty or not finite"),
        (np.ones((0, 3)), r"of 'x' are empty or not finite"),
    ]:
        save_file({"x": value}, tmp_path / "x.safetensors")
        with pytest.raises(UsageError, match=message):
            load_embeddings(tmp_path / "x.safetensors")


# In the text encoder


def test_prompts_are_split_at_the_tokens(encoder):
    added = ti.add_tokens(encoder, {"<x>": RAMP[:1], "<X-y>": RAMP[1:]})
    added = ti.add_tokens(added, {"<x>2": RAMP[:2]})
    for prompt, expected in {
        "a <x> abc": [4, 12, ABC],
        "abc<x>b": [ABC, 12, 5],
        "<X-y> a": [13, 14, 4],
        "<X-y>_1 a": [14, 4],
        "<x>2, <x>2_1": [15, 16, END, 16],  # the comma is no token of this vocabulary
        "abc d": [ABC, 3],
    }.items():
        tokens = added.network.tokens(prompt).tolist()
        assert tokens == [START, *expected, *[END] * (11 - len(expected))]


def test_the_vectors_are_the_last_rows_and_nothing_else_changes(encoder):
    added = ti.add_tokens(encoder, load_embeddings(BIN))
    np.testing.assert_array_equal(table(added)[:12], table(encoder))
    np.testing.assert_allclose(table(added)[12:], RAMP[[0, 1, 2, 1, 2]], rtol=2**-8)
    assert added.network.module.transformer["vocabulary"] == 17
    template = jax.eval_shape(added.network.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, added.params) == jax.tree.map(jnp.shape, template)
    others = [select(text.params, ("*",), (ti.TABLE,)).params for text in (encoder, added)]
    jax.tree.map(np.testing.assert_array_equal, *others)
    for prompt in ("abc d", "a b"):
        np.testing.assert_array_equal(condition(added, prompt), condition(encoder, prompt))


def test_a_token_with_the_vectors_of_words_says_what_the_words_say(encoder):
    words = table(encoder)[[ABC, 3]]
    added = ti.add_tokens(encoder, {"<abc-d>": words, "<abc>": words[:1]})
    expected = condition(encoder, "a abc d b")
    for prompt in ("a <abc-d> b", "a <abc> d b"):
        np.testing.assert_allclose(condition(added, prompt), expected, atol=1e-6)


def test_spare_rows_of_the_table_are_used_first(tmp_path):
    text = encoder_of(tmp_path, rows=14)
    added = ti.add_tokens(text, {"<x>": RAMP[:1]})
    np.testing.assert_array_equal(table(added), [*table(text)[:12], RAMP[0], table(text)[13]])
    more = ti.add_tokens(added, {"<y>": RAMP[1:]})
    np.testing.assert_array_equal(table(more), [*table(text)[:12], *RAMP])


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ({"abc</w>": RAMP}, r"token 'abc</w>' exists already; give the new one another name"),
        ({"<x>": RAMP[:2], "<x>_1": RAMP[:1]}, r"token '<x>_1' exists already"),
        ({"<x>": RAMP[:, :5]}, r"'<x>' are shaped \(3, 5\), the text encoder takes \[n, 32\]"),
        ({"<x>": RAMP[:0]}, r"'<x>' are shaped \(0, 32\), the text encoder takes \[n, 32\]"),
        ({"cat toy": RAMP}, r"token 'cat toy' must be one word; try '<cat-toy>'"),
        ({"": RAMP}, r"token '' must be one word"),
    ],
)
def test_tokens_that_cannot_be_are_refused(encoder, embeddings, message):
    with pytest.raises(UsageError, match=message):
        ti.add_tokens(encoder, embeddings)


def test_a_token_is_added_once_and_to_a_tokenizer_alone(encoder):
    added = ti.add_tokens(encoder, {"<x>": RAMP})
    with pytest.raises(UsageError, match=r"token '<x>' exists already"):
        ti.add_tokens(added, {"<x>": RAMP})
    network = CLIPText(encoder.network.module, lambda _: np.zeros(12, np.int32), 12, 32)
    with pytest.raises(UsageError, match=r"cannot be added to function; use the text encoder that"):
        ti.add_tokens(Component(network, encoder.params), {"<x>": RAMP})


# Training


def eps_fn(params, x, t, cond):
    """The exact noise of a flat image, whose value is read out of the text."""
    abar = SCHEDULE.signal[t] ** 2
    value = jnp.tanh(jnp.sum(params["out"] * cond[1:3]))
    return (x - jnp.sqrt(abar) * value) / jnp.sqrt(1 - abar)


PARAMS = {"out": 0.1 * jax.random.normal(jax.random.key(3), (2, 32))}
PROMPTS = ["<x> a", "a <x> d"]


def train(encoder: Component[CLIPText], rule: optax.GradientTransformation, **changes: Any):
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "token": "<x>",
        "initial": "abc",
        "vectors": 2,
        "steps": 60,
        "batch": 8,
        "key": jax.random.key(0),
        **changes,
    }
    x0 = jnp.full((2, *SHAPE), 0.5)
    return ti.train_embedding(eps_fn, PARAMS, encoder, SCHEDULE, rule, x0, **settings)


def test_training_moves_the_vectors_alone_and_lowers_the_loss(encoder):
    seen = []

    def init(params):
        seen.append(jax.tree.map(jnp.shape, params))
        return adam.init(params)

    adam = optax.adam(3e-2)
    learned = train(encoder, optax.GradientTransformation(init, adam.update))
    assert seen == [(2, 32)]
    assert learned.rows.shape == (2, 32)
    assert float(jnp.abs(learned.rows - table(encoder)[[ABC] * 2]).max()) > 0.1
    assert learned.losses.shape == (60,)
    assert float(learned.losses[-10:].mean()) < 0.2 * float(learned.losses[:10].mean())

    np.testing.assert_array_equal(table(learned.text)[12:], learned.rows)
    np.testing.assert_array_equal(table(learned.text)[:12], table(encoder))
    others = [select(text.params, ("*",), (ti.TABLE,)).params for text in (encoder, learned.text)]
    jax.tree.map(np.testing.assert_array_equal, *others)


def test_a_step_of_descent_is_the_gradient_of_the_loss(encoder):
    """Against the loss of one step written out, by its gradient over the whole table."""
    learned = train(encoder, optax.sgd(1.0), steps=1, batch=3)
    start = np.tile(table(encoder)[ABC], (2, 1))
    begun = ti.add_tokens(encoder, {"<x>": start})
    part, key = select(begun.params, (ti.TABLE,)), jax.random.fold_in(jax.random.key(0), 0)
    index_key, sample_key = jax.random.split(key)

    numbers = jax.random.randint(index_key, (3,), 0, 2).tolist()

    def loss(table):
        params, total = part.merge({ti.TABLE: table}, part.others), 0.0
        for number, key in zip(numbers, jax.random.split(sample_key, 3), strict=True):
            time_key, noise_key = jax.random.split(key)
            t = jax.random.randint(time_key, (), 0, 1000)
            noise = jax.random.normal(noise_key, SHAPE)
            abar = SCHEDULE.signal[t] ** 2
            x = jnp.sqrt(abar) * 0.5 + jnp.sqrt(1 - abar) * noise
            tokens = jnp.asarray(begun.network.tokens(PROMPTS[number]))
            eps = eps_fn(PARAMS, x, t, begun.network.apply(params, tokens))
            total += jnp.mean((noise - eps) ** 2) / 3
        return total

    value, gradient = jax.jit(jax.value_and_grad(loss))(part.params[ti.TABLE])
    np.testing.assert_allclose(learned.losses, [value], rtol=1e-4)
    scale = float(jnp.abs(gradient[12:]).max())
    assert scale > 0
    np.testing.assert_allclose(learned.rows, start - gradient[12:], atol=1e-3 * scale)


def test_without_a_step_a_token_says_what_its_first_word_says(encoder):
    learned = train(encoder, optax.sgd(0.0), vectors=1, steps=1)
    expected = condition(encoder, "a abc d")
    np.testing.assert_allclose(condition(learned.text, "a <x> d"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ["<x>"]}, r"1 prompts for 2 latents; give one prompt a latent"),
        ({"prompts": ["<x>", "abc"]}, r"prompt 'abc' does not hold the token '<x>'"),
        ({"prompts": ["<x>", "a " * 9 + "<x>"]}, r"does not hold .* within its 12 tokens"),
        ({"initial": "abc d"}, r"initial='abc d' is 2 tokens of the text encoder, expected one"),
        ({"initial": ""}, r"initial='' is 0 tokens"),
        ({"vectors": 0}, r"vectors=0 of token '<x>' must be at least 1"),
        ({"token": "a b"}, r"token 'a b' must be one word"),
    ],
)
def test_training_that_cannot_be_is_refused(encoder, changes, message):
    with pytest.raises(UsageError, match=message):
        train(encoder, optax.sgd(0.1), **changes)
