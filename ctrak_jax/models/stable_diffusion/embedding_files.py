"""Files of textual inversions, whoever wrote them: tokens and their vectors.

============================================  ======================================
content                                       written by
============================================  ======================================
{token: [width] or [n, width]}                diffusers, Custom Diffusion, AbC
{"string_to_param": {"*": ...}, "name": ...}  AUTOMATIC1111
{"string_to_param": ParameterDict}            the first authors' code
{"emb_params": [n, width]}                    kohya, AUTOMATIC1111
a tensor                                      scripts
============================================  ======================================

The last three say no token: it is the one that is given, or the file's name in angle brackets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import safe, torch_pickle

SDXL = ("clip_l", "clip_g", "t5", "t5xxl")
"""Text encoders of later models, which such a file names in place of a token."""
NO_NAMES = ("learned_embeds", "embeddings", "embedding", "model", "pytorch_model")
"""Names of files that many tools give, whatever the token."""


def load_embeddings(
    file: Path, token: str | None = None
) -> dict[str, Float[np.ndarray, "_ width"]]:
    """The embeddings in a file: token -> its vectors [n, width], float32.

    Args:
        file: of any of the forms above, told by its content.
        token: takes the place of the one the file says.

    Raises:
        UsageError: missing, damaged, or no embedding of one text encoder's tokens.
    """
    if not file.is_file():
        raise UsageError(f"{file} is missing; expected learned_embeds.safetensors or .bin.")
    found = _by_token(file, _read(file))
    if token is not None:
        if len(found) != 1:
            raise UsageError(
                f"{file} holds {len(found)} tokens, {', '.join(map(repr, found))}; leave out "
                f"the name {token!r}, which is for a file of one."
            )
        found = dict(zip([token], found.values(), strict=True))
    elif None in found:
        found = dict(zip([_named_by(file)], found.values(), strict=True))
    return {str(token): _rows(file, token, value) for token, value in found.items()}


def _read(file: Path) -> Any:
    with file.open("rb") as content:
        start = content.read(64)
    if not safe.is_safe(start):
        return torch_pickle.read_archive(file)
    try:
        return safe.read(file).tensors
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise UsageError(f"{file} cannot be read ({reason}); fetch the file again.") from None


def _by_token(file: Path, content: Any) -> Mapping[Any, Any]:
    """What the file has for each token; the token is None where it says none."""
    if isinstance(content, np.ndarray):
        return {None: content}
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{file} holds no tensors by their token; expected an embedding's file.")
    if any(name in content for name in SDXL):
        raise UsageError(
            f"{file} is an embedding of Stable Diffusion XL or later (it has "
            f"{', '.join(map(str, content))}); use one trained for Stable Diffusion 1.x or 2.x."
        )
    if "emb_params" in content:
        return {None: content["emb_params"]}
    if "string_to_param" not in content:
        return content
    vectors = content["string_to_param"]
    vectors = vectors.get("_parameters", vectors) if isinstance(vectors, dict) else vectors
    if not isinstance(vectors, dict) or len(vectors) != 1:
        raise UsageError(
            f"{file}: its string_to_param holds no vectors of one token; save every token in a "
            "file of its own."
        )
    (value,) = vectors.values()
    return {content.get("name"): value}


def _named_by(file: Path) -> str:
    stem = file.stem
    if stem.lower() in NO_NAMES:
        raise UsageError(
            f"{file} does not say its token, and its name is that of many; name the file by the "
            "token, such as cat-toy for <cat-toy>."
        )
    return stem if stem.startswith("<") else f"<{stem}>"


def _rows(file: Path, token: object, value: object) -> np.ndarray:
    if not (isinstance(token, str) and isinstance(value, np.ndarray) and value.ndim in (1, 2)):
        what = f"shaped {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UsageError(
            f"{file}: {token!r} is {what}, expected a token's vectors [width] or [n, width]; take "
            "a textual-inversion embedding in diffusers' format."
        )
    rows = np.atleast_2d(value.astype(np.float32))
    if not (rows.size and np.isfinite(rows).all()):
        raise UsageError(f"{file}: the vectors of {token!r} are empty or not finite; train anew.")
    return rows
