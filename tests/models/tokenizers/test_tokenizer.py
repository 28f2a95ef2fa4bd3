"""Token numbers: those of the references, of transformers, and what must hold of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax.errors import UsageError
from ctrak_jax.models.tokenizers import (
    Tokenizer,
    clip_tokenizer,
    encoder_tokenizer,
    load_t5_tokenizer,
    tokenizer_files,
    vocabulary,
)
from ctrak_jax.models.tokenizers.files import written_files
from tests.references import reference
from tests.wild import flux, sd3, sdxl

CLIP = [
    ("sdxl", sdxl, "tokenizer", 1),
    ("sdxl", sdxl, "tokenizer_2", 2),
    ("sd3_dual", sd3, "tokenizer", 1),
    ("sd3_dual", sd3, "tokenizer_2", 2),
    ("sd3_no_t5", sd3, "tokenizer", 1),
    ("sd3_no_t5", sd3, "tokenizer_2", 2),
    ("flux_dev", flux, "tokenizer", 1),
]
T5 = [("sd3_dual", sd3, "tokenizer_3", 3), ("flux_dev", flux, "tokenizer_2", 2)]
CAPTIONS = ["a red circle on a white table", "a pencil drawing of a small cat"]
CAPTIONS.append("two blue birds in the snow!")
MINUS = ["a circle on a white table", "a drawing of a small cat", "two birds in the snow!"]
HARD = [
    *(
        "",
        " ",
        "!",
        "!!",
        "a!b",
        "\t\n cat \u00a0dog\u3000bird\u200bhat",
        "'s 'S it's IT'LL 'tis''re",
    ),
    *(
        "A PHOTO of İstanbul, Straße & ΣΊΣΥΦΟΣ",
        "cafe\u0301 caf\u00e9",
        "x" * 200,
        "a red cat " * 60,
    ),
    *(
        "1234 5.6e-7 ½ ٣٤ Ⅻ",
        "a cat, (a dog:1.3) [bird|hat] <lora:x:1> __sea__",
        "日本の猫と狗",
        "한국어",
    ),
    *("😀👩‍👩‍👧 🏳️‍🌈", "\x00\x07a\x1fb", "a\u0301\u0302\u0303", "ﬁne ｆｕｌｌ", "--- ... …“quoted”"),
    *(
        "<|startoftext|>a cat<|endoftext|> more",
        "<|ENDOFTEXT|> cat",
        "</s> a <pad>cat <extra_id_0>.",
    ),
    *("&amp; &lt;b&gt;", "naïve Ångström ÅÅ", "a_b__c", "▁a ▁▁", "\ufeffcat\u2028hat", "ก็า नमस्ते"),
]


def clip(root, name: str, folder: str, length: int) -> Tokenizer:
    return clip_tokenizer(tokenizer_files(root() / name / folder), length)


@pytest.mark.parametrize(("name", "root", "folder", "n"), CLIP + T5)
def test_tokens_are_those_of_the_references(name, root, folder, n):
    ref = reference(root() / f"{name}_reference.safetensors")
    for texts, kind in ((CAPTIONS, ""), (MINUS, "_minus"), ([""], "_empty")):
        wanted = ref[f"tokens_{n}{kind}"]
        load = load_t5_tokenizer if (name, root, folder, n) in T5 else None
        length = wanted.shape[1]
        tokens = load(root() / name / folder, length) if load else clip(root, name, folder, length)
        np.testing.assert_array_equal([tokens(text) for text in texts], wanted)


def fast(folder: Path):
    transformers = pytest.importorskip("transformers", reason="needs the extra diffusers")
    return transformers.CLIPTokenizerFast.from_pretrained(folder)


def same(tokens: Tokenizer, theirs, length: int) -> None:
    for text in HARD:
        wanted = theirs(text, padding="max_length", truncation=True, max_length=length)
        np.testing.assert_array_equal(tokens(text), wanted["input_ids"], err_msg=repr(text))


@pytest.mark.parametrize(("name", "root", "folder", "n"), CLIP)
def test_hard_texts_are_read_as_transformers_reads_them(name, root, folder, n):
    same(clip(root, name, folder, 40), fast(root() / name / folder), 40)


def test_hard_texts_are_read_by_clips_own_pairs(tmp_path):
    try:
        found = vocabulary.read(vocabulary.library())
    except UsageError as error:
        pytest.skip(f"needs CLIP's vocabulary ({error})")
    for pad in ("<|endoftext|>", "!"):
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": pad}
        files = written_files(found.numbers, list(found.merges), special)
        for name, content in files.items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        same(clip_tokenizer(tokenizer_files(tmp_path), 77), fast(tmp_path), 77)


@pytest.mark.parametrize(("name", "root", "folder", "n"), T5)
def test_hard_texts_are_read_as_t5_reads_them(name, root, folder, n):
    transformers = pytest.importorskip("transformers", reason="needs the extra diffusers")
    place = root() / name / folder
    theirs = transformers.T5TokenizerFast.from_pretrained(place)
    same(load_t5_tokenizer(place, 30), theirs, 30)


def test_a_cut_text_keeps_its_end():
    for tokens in (clip(sdxl, "sdxl", "tokenizer_2", 9), load_t5_tokenizer(t5(), 9)):
        short, long = tokens("a cat"), tokens("a red cat " * 9)
        assert short.shape == long.shape == (9,)
        assert long[-1] == tokens.end
        assert short[-1] == tokens.pad != tokens.end
        assert (short == tokens.end).sum() == 1


def t5() -> Path:
    return sd3() / "sd3_dual" / "tokenizer_3"


def test_tokens_of_ones_own_are_read_as_they_are_written():
    tokens = clip(sdxl, "sdxl", "tokenizer", 12)
    first = len(tokens.vocabulary)
    more = tokens.with_tokens({"<Cat>": ("<Cat>", "<Cat>_1")}).with_tokens({"<b>": ("<b>",)})
    assert [more.vocabulary[name] for name in ("<Cat>", "<Cat>_1", "<b>")] == [
        *range(first, first + 3)
    ]
    a = tokens("a")[1]
    found = more("a<Cat> <b>a").tolist()
    assert found == [tokens("")[0], a, first, first + 1, first + 2, a, *[tokens.end] * 6]
    assert first not in more("a <cat>")
    assert first not in tokens("a <Cat>")


def test_one_file_has_the_numbers_of_two(tmp_path):
    """tokenizer.json alone, as transformers 5 writes it; its pairs are lists there."""
    place = sdxl() / "sdxl" / "tokenizer_2"
    pairs = (place / "merges.txt").read_text().split("\n")[1:]
    model = {"vocab": json.loads((place / "vocab.json").read_text())}
    model["merges"] = [pair.split(" ") for pair in pairs if pair]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    shutil.copy(place / "tokenizer_config.json", tmp_path)
    one, two = (clip_tokenizer(tokenizer_files(folder), 30) for folder in (tmp_path, place))
    for text in HARD:
        np.testing.assert_array_equal(one(text), two(text))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", "{", "vocab.json cannot be read"),
        ("vocab.json", "[]", "vocab.json is no JSON object"),
        ("merges.txt", "#\n# !", "vocab.json and merges.txt cannot be used"),
        ("added_tokens.json", '{"<x>": 9999}', "token '<x>' is number 9999, expected 574"),
    ],
)
def test_damaged_files_are_one_line(file, content, message):
    files = {**tokenizer_files(sdxl() / "sdxl" / "tokenizer"), file: content}
    with pytest.raises(UsageError, match=message) as raised:
        clip_tokenizer(files, 77)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_of_shorter_texts_than_the_encoder_reads_is_refused():
    files = tokenizer_files(sdxl() / "sdxl" / "tokenizer")
    assert encoder_tokenizer(files, 77)("a cat").shape == (77,)
    with pytest.raises(UsageError, match="model_max_length is 77, its text encoder reads 78"):
        encoder_tokenizer(files, 78)


def test_another_t5_tokenizer_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"tokenizer\.json is missing"):
        load_t5_tokenizer(tmp_path, 20)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be read"):
        load_t5_tokenizer(tmp_path, 20)
    whole = json.loads((t5() / "tokenizer.json").read_text()) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(UsageError, match="ends a text with"):
        load_t5_tokenizer(tmp_path, 20)
