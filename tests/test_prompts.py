"""Captions without a concept: a table of cases, and what must hold for every prompt."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.data.avatars import ATTRIBUTES, caption
from ctrak_jax.errors import UsageError
from ctrak_jax.prompts import unfound_words, without, words_of

LIST = "a portrait with black hair, dark skin, glasses and a beard on a mint background"
SHORT = "an avataaars portrait with black hair, dark skin and glasses on a sky background"


@pytest.mark.parametrize(
    ("prompt", "concept", "expected"),
    [
        # A style, a subject, an adjective.
        ("Pikachu in the style of Pablo Picasso", "Pablo Picasso", "Pikachu"),
        ("Pikachu in the style of Pablo Picasso", "Pikachu", "in the style of Pablo Picasso"),
        ("Pikachu in the style of Pablo Picasso, 4k", "pablo  picasso", "Pikachu, 4k"),
        ("a pencil drawing of Pikachu", "pikachu", "a pencil drawing"),
        ("a painting of Pikachu, oil on canvas", "Pikachu", "a painting, oil on canvas"),
        ("a painting of Pikachu and Eevee", "Pikachu", "a painting of Eevee"),
        ("a photo of Pikachu.", "Pikachu", "a photo."),
        ("Pikachu, in the rain", "Pikachu", "in the rain"),
        ("Van Gogh's cat", "Van Gogh", "cat"),
        ("an avataaars portrait", "avataaars", "a portrait"),
        ("A red owl", "red", "An owl"),
        ("a white unicorn", "white", "a unicorn"),
        ("a cat in front of a tree", "tree", "a cat"),
        # Lists: the first, one in the middle, the last; with an article; before what follows.
        ("a portrait with red hair and glasses", "red hair", "a portrait with glasses"),
        ("a portrait with red hair and glasses", "glasses", "a portrait with red hair"),
        ("a portrait with red hair on a beach", "red hair", "a portrait on a beach"),
        ("a portrait with red hair, on a beach", "red hair", "a portrait, on a beach"),
        (LIST, "black hair", LIST.replace("black hair, ", "")),
        (LIST, "dark skin", LIST.replace("dark skin, ", "")),
        (LIST, "glasses", LIST.replace(", glasses", "")),
        (LIST, "a beard", LIST.replace(", glasses and a beard", " and glasses")),
        (LIST, "a beard", without(LIST, "beard")),
        (LIST, "mint background", LIST.replace(" on a mint background", "")),
        (SHORT, "black hair", SHORT.replace("black hair, ", "")),
        (SHORT, "dark skin", SHORT.replace(", dark skin", "")),
        (SHORT, "glasses", SHORT.replace(", dark skin and glasses", " and dark skin")),
        ("hat, coat, and scarf", "hat", "coat, and scarf"),
        ("hat, coat, and scarf", "coat", "hat, and scarf"),
        ("hat, coat, and scarf", "scarf", "hat and coat"),
        ("hat, coat, scarf", "scarf", "hat, coat"),
        ("hat or coat or scarf", "coat", "hat or scarf"),
        ("a cat and a dog on a beach", "cat", "a dog on a beach"),
        ("a cat and a dog on a beach", "dog", "a cat on a beach"),
        (
            "a hat, a coat in the style of Dalí and Miró",
            "Miró",
            "a hat, a coat in the style of Dalí",
        ),
        # All of it, more than once.
        ("Pikachu", " pikachu", ""),
        ("Pikachu and a dog and Pikachu", "Pikachu", "a dog"),
        ("a <cat-toy> on a chair", "<cat-toy>", "on a chair"),
    ],
)
def test_cases(prompt, concept, expected):
    assert without(prompt, concept) == expected


@pytest.mark.parametrize(
    ("prompt", "concept", "message"),
    [
        ("a cat", " ,", r"concept=' ,' is empty; expected words of the prompt 'a cat', name them"),
        ("a cat", "dog", r"'dog' is not in the prompt 'a cat'; name words"),
        ("a pixel-art concatenation", "art", r"'art' is not in the prompt"),
        ("a pixel-art concatenation", "cat", r"'cat' is not in the prompt"),
        ("a cat", "cat", r"'a cat' without 'cat' has no word of content left; name the whole"),
        ("in the style of Dalí", "Dalí", r"no word of content left"),
        ("cat and cat", "cat", r"no word of content left"),
    ],
)
def test_refused(prompt, concept, message):
    with pytest.raises(UsageError, match=message):
        without(prompt, concept)


CONCEPTS = ("red hair", "Pikachu", "owl", "<toy>")
CONTENT = ("glasses", "beard", "old tree", "the sea", "unicorn")
items = st.sampled_from([*CONCEPTS, *CONTENT, "an owl", "a beard"])
joints = st.sampled_from(
    [" ", ", ", " and ", ", and ", " or ", " with ", " of ", " in the style of ", " on a ", ". "]
)


@st.composite
def prompts(draw) -> str:
    text = draw(items)
    for _ in range(draw(st.integers(0, 6))):
        text += draw(joints) + draw(items)
    return text + draw(st.sampled_from(["", ".", "!"]))


@settings(max_examples=500, deadline=None)
@given(prompt=prompts(), concept=st.sampled_from(CONCEPTS))
def test_any_prompt(prompt, concept):
    whole = rf"(?i)(?<![\w-]){re.escape(concept)}(?![\w-])"
    if not re.search(whole, prompt):
        with pytest.raises(UsageError, match="not in the prompt"):
            without(prompt, concept)
        return
    try:
        rest = without(prompt, concept)
    except UsageError:  # no word of content is left
        assert not any(item in re.sub(whole, "", prompt) for item in CONTENT)
        return
    assert len(rest) < len(prompt)
    if rest == "":
        assert prompt == concept
        return
    with pytest.raises(UsageError, match="not in the prompt"):
        without(rest, concept)
    assert rest == " ".join(rest.split())
    assert not re.search(r"\s[.,!]|^[.,!]|[,]$|[,.] *[,.!]|,\.", rest)
    assert not re.search(r"(?i)(^| )(and|or|,) *(and|or|,|$)|^(and|or)\b", rest)
    left = [word.strip(".,!") for word in rest.lower().split() if word not in ("a", "an", "and")]
    words = iter(word.strip(".,!") for word in prompt.lower().split())
    assert all(word in words for word in left if word != "or")


values = st.fixed_dictionaries({name: st.sampled_from(v) for name, v in ATTRIBUTES.items()})


@settings(max_examples=300, deadline=None)
@given(values=values)
def test_captions_without_glasses_or_beard_are_the_captions_of_those_who_have_none(values):
    for name in ("glasses", "beard"):
        words = words_of(name, values[name], caption(values))
        if values[name] == "no":
            assert words is None
        else:
            assert words is not None
            assert without(caption(values), words) == caption(values | {name: "no"})


@settings(max_examples=100, deadline=None)
@given(values=values)
def test_words_of_every_attribute_of_a_caption(values):
    for name in ("hair", "skin", "background"):
        assert words_of(name, values[name], caption(values)) == f"{values[name]} {name}"
    assert words_of("style", values["style"], caption(values)) == values["style"]


def test_captions_in_which_words_are_not_found_are_counted():
    captions = ("a cat", "two cats", "", None, "a man without glasses", "a man", "two cats")
    animals = ("cat", "cat", "cat", "cat", None, "man", "cat")
    glasses = ("no", "no", "no", "no", "no", "no", "no")
    hats = ("a", "a", "a", "a", "a", "man", "a")
    found = unfound_words({"animal": animals, "glasses": glasses}, captions)
    assert found == [
        ("animal", 2, 5, "cat", "two cats"),
        ("glasses", 1, 6, "no", "a man without glasses"),
    ]
    assert str(found[0]).startswith(
        "in 2 of 5 captions (40.0%) the words for the value of 'animal'"
    )
    assert not unfound_words({"hat": hats[:1] + hats[5:6]}, captions[:1] + captions[5:6])


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("hair", "red", "Red hair"),
        ("colour", "red", "Red"),
        ("beard", "yes", "a beard"),
        ("glasses", "yes", "glasses"),
        ("earring", "yes", "an earring"),
        ("hat", "yes", None),
        ("beard", "no", None),
        ("hair", "re", None),
    ],
)
def test_words_of(attribute, value, expected):
    prompt = "Red hair, a beard, glasses, an earring and no scarf, yes"
    assert words_of(attribute, value, prompt) == expected
