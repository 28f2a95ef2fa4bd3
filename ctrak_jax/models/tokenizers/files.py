"""The files of CLIP's tokenizer, whichever of them a folder has.

``vocab.json`` and ``merges.txt``, or ``tokenizer.json`` alone (transformers 5); without a folder
CLIP's own list of merges (:mod:`ctrak_jax.models.tokenizers.vocabulary`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.tokenizers import vocabulary

CLASSIC = ("vocab.json", "merges.txt")
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

TokenizerFiles = Mapping[str, str]
"""Names of files -> their content: those of CLASSIC, and some of BESIDE."""


def tokenizer_files(folder: Path) -> TokenizerFiles:
    """The files of the tokenizer in a folder, in the form that CLIP's Python tokenizer reads."""
    missing = [name for name in CLASSIC if not (folder / name).is_file()]
    if not missing:
        return {
            name: read_text(folder / name)
            for name in (*CLASSIC, *BESIDE)
            if (folder / name).is_file()
        }
    whole = folder / "tokenizer.json"
    if not whole.is_file():
        raise UsageError(
            f"{folder / missing[0]} is missing; use a folder with CLIP's tokenizer (vocab.json and "
            "merges.txt, or tokenizer.json)."
        )
    return _from_one_file(whole)


def read_text(file: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error}); fetch the file again.") from None


def _from_one_file(whole: Path) -> TokenizerFiles:
    content = read_config(whole)
    model = content.get("model")
    numbers = model.get("vocab") if isinstance(model, dict) else None
    merges = model.get("merges") if isinstance(model, dict) else None
    # A pair is "left right" in files by transformers 4, [left, right] in those by 5.
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges or ()]
    written = all(isinstance(p, list) and list(map(type, p)) == [str, str] for p in pairs)
    if not isinstance(numbers, dict) or not pairs or not written:
        raise UsageError(
            f"{whole} holds no byte-pair vocabulary with its merges; use a folder with CLIP's "
            "tokenizer."
        )
    file = whole.with_name("tokenizer_config.json")
    about = read_config(file) if file.is_file() else {}
    special = {
        f"{name}_token": _content(about.get(f"{name}_token"), default)
        for name, default in (
            *(("bos", vocabulary.START), ("eos", vocabulary.END)),
            *(("unk", vocabulary.END), ("pad", vocabulary.END)),
        )
    }
    kept = {"errors": about.get("errors", "replace")}
    if "model_max_length" in about:
        kept["model_max_length"] = about["model_max_length"]
    merged = [f"{left} {right}" for left, right in pairs]
    # Tokens of textual inversions, saved with the vocabulary.
    added = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    more = {token: number for token, number in added.items() if token not in numbers}
    files = written_files(numbers, merged, kept | special)
    return {**files} | ({"added_tokens.json": json.dumps(more)} if more else {})


def _content(token: Any, default: str) -> str:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else default


def written_files(
    numbers: Mapping[str, int], merges: list[str], about: Mapping[str, Any]
) -> TokenizerFiles:
    """The files of a vocabulary; ``about`` names the special tokens."""
    special = {key: value for key, value in about.items() if key.endswith("_token")}
    return {
        "vocab.json": json.dumps(numbers, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "special_tokens_map.json": json.dumps(special, ensure_ascii=False),
        "tokenizer_config.json": json.dumps(
            {"tokenizer_class": "CLIPTokenizer", **about}, ensure_ascii=False
        ),
    }


def clips_own(pad: str) -> TokenizerFiles:
    """CLIP's tokenizer from its list of merges; Stable Diffusion 2 pads with "!"."""
    found = vocabulary.read(vocabulary.library())
    about = {"model_max_length": 77, "errors": "replace"}
    special = {
        "bos_token": vocabulary.START,
        "eos_token": vocabulary.END,
        "unk_token": vocabulary.END,
        "pad_token": pad,
    }
    return written_files(found.numbers, list(found.merges), about | special)
