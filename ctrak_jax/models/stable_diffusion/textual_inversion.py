"""Textual inversion: words of one's own, each the embedding of a new token.

A concept that has a token, such as ``<cat-toy>``, can be asked about like any other: c is "a photo
of <cat-toy>", c without it "a photo". Of the whole model only the token's rows of the embedding
table are trained, equation (B.6). A token of n vectors is written once in a prompt and stands for n
tokens, ``<cat-toy> <cat-toy>_1 ...``, as in diffusers. Their files are read by
:mod:`ctrak_jax.models.stable_diffusion.embedding_files`.

Source: Gal et al. 2022.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int
from safetensors.numpy import save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import select
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.models.stable_diffusion.text import CLIPText
from ctrak_jax.models.tokenizers import Tokenizer
from ctrak_jax.models.tuning import tune
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Array, EpsFn, Image, Params, PRNGKey, Timestep

TABLE = "text_model/embeddings/token_embedding/embedding"
"""The parameter [vocabulary, width] that a token's rows join."""


def save_embedding(file: Path, token: str, rows: Float[Array, "_ width"]) -> None:
    """Write one token's vectors as ``learned_embeds.safetensors``; diffusers reads it, too."""
    values = np.asarray(rows, np.float32)
    save_file({token: np.ascontiguousarray(values[0] if len(values) == 1 else values)}, file)


def add_tokens(
    text: Component[CLIPText], embeddings: Mapping[str, Float[Array, "_ width"]]
) -> Component[CLIPText]:
    """The text encoder with more tokens, numbered after those it has, by their vectors."""
    network, old = text.network, _tokenizer(text)
    pieces = {token: pieces_of(token, len(rows)) for token, rows in embeddings.items()}
    names = Counter([*old.vocabulary, *chain(*pieces.values())])
    for token, rows in embeddings.items():
        if not token or token.split() != [token]:
            raise UsageError(f"token {token!r} must be one word; try '<cat-toy>'.")
        taken = [piece for piece in pieces[token] if names[piece] > 1]
        if taken:
            raise UsageError(
                f"token {taken[0]!r} exists already; give the new one another name, such as "
                "'<cat-toy>'."
            )
        if rows.shape[1] != network.width or not len(rows):
            raise UsageError(
                f"the vectors of {token!r} are shaped {rows.shape}, the text encoder takes "
                f"[n, {network.width}]; use an embedding trained for this model."
            )
    new = old.with_tokens(pieces)
    part, first = select(text.params, (TABLE,)), len(old.vocabulary)
    # A table may have rows to spare, which no token had until now.
    table = [part.params[TABLE][:first], *embeddings.values()]
    table.append(part.params[TABLE][len(new.vocabulary) :])
    rows = jnp.concatenate([jnp.asarray(each, jnp.float32) for each in table])
    grown = replace(network.with_vocabulary(len(rows)), tokenize=new)
    return Component(grown, part.merge({TABLE: rows}, part.others))


def pieces_of(token: str, vectors: int) -> tuple[str, ...]:
    """The tokens that a token of several vectors stands for."""
    return (token, *(f"{token}_{number}" for number in range(1, vectors)))


def _tokenizer(text: Component[CLIPText]) -> Tokenizer:
    if isinstance(text.network.tokenize, Tokenizer):
        return text.network.tokenize
    raise UsageError(
        f"tokens cannot be added to {type(text.network.tokenize).__name__}; use the text encoder "
        "that load_text_encoder gives."
    )


class Learned(NamedTuple):
    """A text encoder that has a trained token, the token's vectors, the loss of every step."""

    text: Component[CLIPText]
    rows: Float[Array, "_ width"]
    losses: Float[Array, " step"]


def train_embedding(
    eps_fn: EpsFn,
    params: Params,
    text: Component[CLIPText],
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    x0: Float[Array, "sample ..."],
    prompts: Sequence[str],
    *,
    token: str,
    initial: str,
    vectors: int = 1,
    steps: int,
    batch: int,
    key: PRNGKey,
) -> Learned:
    """Minimise the noise loss over a new token's vectors, as :func:`ctrak_jax.models.tuning.tune`.

    Args:
        text: without the token.
        x0: latents.
        prompts: one per latent, each with the token.
        initial: a word of one token, whose embedding every vector starts from.
    """
    if len(prompts) != len(x0):
        raise UsageError(f"{len(prompts)} prompts for {len(x0)} latents; give one prompt a latent.")
    new = begin(text, token, initial, vectors)
    tokens = np.stack([new.tokens(prompt) for prompt in prompts])

    def predict(rows: Params, frozen: Params, x: Image, t: Timestep, index: Array) -> Image:
        denoiser, table, others, tokens = frozen
        return eps_fn(denoiser, x, t, new.embed(rows, table, others, tokens[index]))

    frozen = (params, *new.frozen, jnp.asarray(tokens))
    trained = (predict, new.rows, frozen)
    tuned = tune(*trained, schedule, optimizer, x0, steps=steps, batch=batch, key=key)
    return Learned(add_tokens(text, {token: tuned.params}), *tuned)


class NewToken(NamedTuple):
    """A text encoder with a token that is to be trained.

    Attributes:
        token: as it is written in prompts.
        network: the encoder, whose tokenizer knows the token.
        numbers: of the token's vectors, int [vector].
        rows: its vectors at the start [vector, width].
        frozen: the embedding table, whose rows ``numbers`` are not read, and all other parameters.
        merge: the selection's.
    """

    token: str
    network: CLIPText
    numbers: np.ndarray
    rows: Float[Array, "vector width"]
    frozen: tuple[Array, dict[str, Array]]
    merge: Callable[[dict[str, Array], dict[str, Array]], Params]

    def tokens(self, prompt: str) -> Int[np.ndarray, " token"]:
        """Token numbers of a prompt.

        Raises:
            UsageError: the token is not among them.
        """
        found = self.network.tokens(prompt)
        if not np.isin(self.numbers, found).all():
            raise UsageError(
                f"the prompt {prompt!r} does not hold the token {self.token!r} within its "
                f"{self.network.length} tokens; write it there."
            )
        return found

    def embed(
        self, rows: Array, table: Array, others: Params, tokens: Int[Array, " token"]
    ) -> Float[Array, "token width"]:
        """The embedding of a text; a function of the vectors."""
        params = self.merge({TABLE: jnp.asarray(table).at[self.numbers].set(rows)}, others)
        return self.network.apply(params, tokens)


def begin(text: Component[CLIPText], token: str, initial: str, vectors: int = 1) -> NewToken:
    """A new token, whose vectors are all the embedding of the word ``initial``."""
    if vectors < 1:
        raise UsageError(f"vectors={vectors} of token {token!r} must be at least 1.")
    rows = jnp.tile(_embedding_of(text, initial), (vectors, 1))
    begun, first = add_tokens(text, {token: rows}), len(_tokenizer(text).vocabulary)
    part = select(begun.params, (TABLE,))
    frozen, numbers = (part.params[TABLE], part.others), np.arange(first, first + vectors)
    return NewToken(token, begun.network, numbers, rows, frozen, part.merge)


def token_of(tokenize: Tokenizer, word: str) -> int:
    """The number of a word that is one token.

    Raises:
        UsageError: it is none, or several.
    """
    tokens = tokenize(word)[1:].tolist()
    found = tokens[: tokens.index(tokenize.end)] if tokenize.end in tokens else tokens
    if len(found) != 1:
        raise UsageError(
            f"initial={word!r} is {len(found)} tokens of the text encoder, expected one; try a "
            "common word such as 'toy'."
        )
    return found[0]


def _embedding_of(text: Component[CLIPText], word: str) -> Float[Array, " width"]:
    table = select(text.params, (TABLE,)).params[TABLE]
    return jnp.asarray(table)[token_of(_tokenizer(text), word)]
