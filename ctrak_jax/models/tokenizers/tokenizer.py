"""A tokenizer of ONE text, from the files that published models have.

CLIP (Radford et al. 2021) puts a text in lower case, parts it into words, digits and punctuation,
writes each as its bytes and merges neighbouring pairs. T5 (Raffel et al. 2020) parts each word into
the likeliest pieces, as its ``tokenizer.json`` says.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from ctrak_jax.errors import UsageError
from ctrak_jax.models.tokenizers.files import TokenizerFiles, read_text
from ctrak_jax.models.tokenizers.vocabulary import END, END_OF_WORD, START

if TYPE_CHECKING:
    import tokenizers

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What CLIP takes for one word; spaces are between them."""
SPECIAL = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
T5_END, T5_PAD = "</s>", "<pad>"


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """The tokens of a text, padded or cut to ``length``: int32 [token].

    Attributes:
        read: the package's tokenizer, which ends a text with ``end``.
        length: of what it gives.
        end: the number of the last token of every text.
        pad: the number of the tokens after it.
        added: each token that the vocabulary did not have -> the tokens that it stands for, one per
            vector of its embedding.
    """

    read: "tokenizers.Tokenizer"
    length: int
    end: int
    pad: int
    added: Mapping[str, tuple[str, ...]]

    def __call__(self, text: str) -> Int[np.ndarray, " token"]:
        whole = self._added.sub(lambda found: self._names[found[0]], text) if self.added else text
        found = self.read.encode(whole).ids
        if len(found) > self.length:
            found = [*found[: self.length - 1], self.end]
        return np.array(found + [self.pad] * (self.length - len(found)), np.int32)

    def with_tokens(self, added: Mapping[str, tuple[str, ...]]) -> "Tokenizer":
        """With more tokens, whose pieces take the next numbers, in their order."""
        read = type(self.read).from_str(self.read.to_str())
        # As written: a text's other words are put in lower case.
        pieces = [piece for pieces in added.values() for piece in pieces]
        read.add_tokens([_token(piece, normalized=False) for piece in pieces])
        return replace(self, read=read, added={**self.added, **added})

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token's number."""
        return self.read.get_vocab()

    @cached_property
    def _names(self) -> dict[str, str]:
        pieces = {piece: piece for pieces in self.added.values() for piece in pieces}
        return pieces | {token: " ".join(pieces) for token, pieces in self.added.items()}

    @cached_property
    def _added(self) -> re.Pattern[str]:
        """Longest first: a token may begin with another."""
        names = sorted(self._names, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)))


def clip_tokenizer(files: TokenizerFiles, length: int) -> Tokenizer:
    """CLIP's tokenizer of its files.

    Raises:
        UsageError: a file is damaged.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers, about = _json(files, "vocab.json"), _json(files, "tokenizer_config.json")
    special, more = _special(files, about), _json(files, "added_tokens.json")
    pairs = [tuple(line.split()) for line in files["merges.txt"].strip().split("\n")[1:]]
    # What is no token never meets another.
    merges = [pair for pair in pairs if all(part in numbers for part in pair)]
    unknown = special["unk_token"]["content"]
    try:
        model = models.BPE(numbers, merges, end_of_word_suffix=END_OF_WORD, unk_token=unknown)
    except Exception as error:
        raise UsageError(
            f"the tokenizer's vocab.json and merges.txt cannot be used ({error}); use both of one "
            "model, whole."
        ) from None
    read = Tokenizer(model)
    read.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    read.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    known = [token["content"] for token in special.values()]
    written = sorted(more.items(), key=lambda token: token[1])
    beside = [{"content": name, "normalized": name not in known} for name, _ in written]
    decoder = about.get("added_tokens_decoder", {})
    _add(read, [decoder[number] for number in sorted(decoder, key=int)], known)
    _add(read, [*special.values(), *beside], known)
    wanted = more | {token["content"]: int(number) for number, token in decoder.items()}
    for name, number in wanted.items():
        if read.token_to_id(name) != number:
            raise UsageError(
                f"the tokenizer's token {name!r} is number {number}, expected "
                f"{read.token_to_id(name)} after those of vocab.json; use the files of one model."
            )
    start, end, pad = (special[f"{name}_token"]["content"] for name in ("bos", "eos", "pad"))
    both = [(name, read.token_to_id(name)) for name in (start, end)]
    read.post_processor = processors.TemplateProcessing(f"{start} $A {end}", None, both)
    return _whole(read, length, end, pad)


def encoder_tokenizer(files: TokenizerFiles, length: int) -> Tokenizer:
    """The tokenizer of a CLIP encoder that reads ``length`` tokens, to which a pipeline pads too.

    Raises:
        UsageError: a file is damaged, or the tokenizer's own texts are shorter.
    """
    own = _json(files, "tokenizer_config.json").get("model_max_length", length)
    if isinstance(own, int | float) and own < length:
        raise UsageError(
            f"the tokenizer's model_max_length is {own}, its text encoder reads {length} tokens; "
            "use the tokenizer and the text encoder of one model."
        )
    return clip_tokenizer(files, length)


def load_t5_tokenizer(folder: Path, length: int) -> Tokenizer:
    """T5's tokenizer in a folder with its ``tokenizer.json``, for texts of ``length`` tokens.

    Raises:
        UsageError: the file is missing, damaged or of another tokenizer.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UsageError(
            f"{file} is missing; use a folder with T5's tokenizer.json (spiece.model is not read)."
        )
    try:
        read = Tokenizer.from_str(read_text(file))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} cannot be read ({error}); fetch the file again.") from None
    read.no_padding()
    read.no_truncation()
    if read.token_to_id(T5_PAD) is None or read.encode("").tokens != [T5_END]:
        raise UsageError(
            f"{file} ends a text with {read.encode('').tokens}, expected {T5_END!r}; use T5's "
            "tokenizer."
        )
    return _whole(read, length, T5_END, T5_PAD)


def _whole(read: "tokenizers.Tokenizer", length: int, end: str, pad: str) -> Tokenizer:
    last, after = read.token_to_id(end), read.token_to_id(pad)
    return Tokenizer(read, length, last, after, {})


def _special(files: TokenizerFiles, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tokens of beginning, end, padding and what is unknown, with how they are matched; the
    files by transformers 4.33 or older have them in a map of their own."""
    found = {key: about.get(key, default) for key, default in SPECIAL.items()}
    if "added_tokens_decoder" not in about:
        own = _json(files, "special_tokens_map.json")
        found |= {key: own[key] for key in SPECIAL if key in own}
    return {
        key: token if isinstance(token, dict) else {"content": token or SPECIAL[key]}
        for key, token in found.items()
    }


def _json(files: TokenizerFiles, name: str) -> dict[str, Any]:
    try:
        found = json.loads(files.get(name, "{}"))
    except ValueError as error:
        raise UsageError(
            f"the tokenizer's {name} cannot be read ({error}); fetch the file again."
        ) from None
    if not isinstance(found, dict):
        raise UsageError(f"the tokenizer's {name} is no JSON object; fetch the file again.")
    return found


def _token(content: str, **how: bool) -> "tokenizers.AddedToken":
    from tokenizers import AddedToken

    return AddedToken(content, **how)


HOW = ("single_word", "lstrip", "rstrip", "normalized")


def _add(
    read: "tokenizers.Tokenizer", tokens: Iterable[Mapping[str, Any]], special: list[str]
) -> None:
    for token in tokens:
        how = {key: bool(token[key]) for key in HOW if key in token}
        made = _token(token["content"], **{"normalized": True, **how})
        add = read.add_special_tokens if token["content"] in special else read.add_tokens
        add([made])
