"""Captions without a concept: the default for c without the concept, c_minus.

A phrase is cut out of a prompt and the gap is closed by rules on words alone: "a portrait with red
hair and glasses" without "red hair" is "a portrait with glasses". The rules know no grammar. Show
the result to the user, who may write a better one.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ctrak_jax.errors import UsageError

LISTING = "with|without|wearing|holding"
"""Prepositions that a list with commas follows: "with A, B"; but "by A, B" ends at the comma."""

PREPOSITIONS = (
    rf"{LISTING}|(?:style|front|top) of|next to|of|in|by|on|at|from|as|for|to|under|over|near"
    "|behind|beside|against|featuring"
)


_pattern = partial(re.compile, flags=re.IGNORECASE)
LINKS = _pattern(r"(?:\s*(?:[,;&]|(?:and|or)\b))+\s*")
CONJUNCTION = _pattern(r"\b(?:and|or)\b|&")
PREPOSITION = _pattern(rf"(?:the style of|{PREPOSITIONS})\b")
LEADING = _pattern(r"^(?:\s*(?:[.,;:!?&]|(?:and|or)\b))+\s*")
PUNCTUATION = _pattern(r"[.,;:!?]")
ENDING = _pattern(rf"(?:(?:^|\s)(?:{LISTING})|(?P<other>(?:^|\s)(?:{PREPOSITIONS})))$")
ARTICLES = _pattern(r"(?:(?:^|\s)(?:an?|the))+$")
DANGLING = _pattern(rf"(?:(?:^|\s)(?:an?|the|and|or|&|{PREPOSITIONS})|\s?[,;:])+$")
LAST_COMMA = _pattern(rf", (?=(?:(?!\b(?:and|or|{PREPOSITIONS})\b)[^,;.&])+$)")
INDEFINITE = _pattern(r"(?<!\S)(a)n?$")
VOWEL = _pattern(r"(?!eu|one\b|uni|use)[aeiou]|hour|honest")


def without(prompt: str, concept: str) -> str:
    """The prompt without the concept's words; empty if there are no others.

    Case does not matter, words are whole. Every occurrence goes, a possessive 's with it. Around
    the gap lists keep their commas and their "and" in place, an article or a preposition that has
    lost its noun goes, "a" and "an" fit the word that now follows.

    Raises:
        UsageError: the concept is empty or not in the prompt, or no word of content would be left.
    """
    prompt, phrase = " ".join(prompt.split()), " ".join(concept.split()).strip(",;")
    if not phrase:
        raise UsageError(
            f"concept={concept!r} is empty; expected words of the prompt {prompt!r}, name them."
        )
    if prompt.lower() == phrase.lower():
        return ""
    pattern = _words(phrase)
    if not pattern.search(prompt):
        raise UsageError(
            f"concept {phrase!r} is not in the prompt {prompt!r}; name words that stand there, or "
            "write the prompt without the concept yourself."
        )
    rest = prompt
    while found := pattern.search(rest):
        rest = _joined(rest[: found.start()].strip(), rest[found.end() :].strip())
    if not re.search(r"\w", DANGLING.sub("", rest)):
        raise UsageError(
            f"the prompt {prompt!r} without {phrase!r} has no word of content left; name the whole "
            "prompt as the concept, or write the prompt without it yourself."
        )
    return rest


def words_of(attribute: str, value: str, prompt: str) -> str | None:
    """The phrase of the prompt that speaks of an attribute's value, as the prompt spells it: the
    first of "{value} {attribute}" and "{value}" that stands there as whole words. "yes" and "no"
    say nothing alone; for "yes" "a {attribute}" and "{attribute}" take its place."""
    candidates = [f"{value} {attribute}"]
    if value == "yes":
        candidates += [f"a {attribute}", f"an {attribute}", attribute]
    elif value != "no":
        candidates.append(value)
    for phrase in candidates:
        if found := _words(phrase).search(prompt):
            return found["phrase"]
    return None


def unnamed(prompt: str, values: Mapping[str, str]) -> str:
    """The prompt without the words that speak of these values by attribute, where it has some; the
    whole prompt goes where it has no others."""
    for attribute, value in values.items():
        words = words_of(attribute, value, prompt)
        if words is not None:
            try:
                prompt = without(prompt, words)
            except UsageError:  # it says nothing else
                return ""
    return prompt


def may_name(attribute: str, value: str, prompt: str) -> bool:
    """May the prompt name the value in words that :func:`words_of` does not find, as "two cats"
    names a cat? An empty prompt does not, nor does one without the attribute's name where the value
    is "no"."""
    if not prompt.strip() or words_of(attribute, value, prompt) is not None:
        return False
    return value != "no" or words_of(attribute, "yes", prompt) is not None


class UnfoundWords(NamedTuple):
    """Captions that stay whole where an attribute is left out, since :func:`may_name` holds.

    Attributes:
        attribute: the one left out.
        kept: how many of ``total``.
        value: the attribute's in the first of them.
        first: the first of them.
    """

    attribute: str
    kept: int
    total: int
    value: str
    first: str

    def __str__(self) -> str:
        return (
            f"in {self.kept:,} of {self.total:,} captions ({100 * self.kept / self.total:.1f}%) "
            f"the words for the value of {self.attribute!r} are not found: these stay whole where "
            "the attribute is left out, and count as naming it. The first, of "
            f"{self.attribute}={self.value}: {self.first!r}"
        )


def unfound_words(
    attributes: Mapping[str, Sequence[str | None]], captions: Sequence[str | None]
) -> list[UnfoundWords]:
    """The captions that :func:`may_name` holds for, by attribute; attributes that have none are
    left out.

    Args:
        attributes: the values of every image.
        captions: of every image.
    """
    found = []
    for name, values in attributes.items():
        pairs = [
            (value, caption)
            for value, caption in zip(values, captions, strict=True)
            if value is not None and caption is not None
        ]
        unclear = {pair: may_name(name, *pair) for pair in dict.fromkeys(pairs)}
        kept = [pair for pair in pairs if unclear[pair]]
        if kept:
            found.append(UnfoundWords(name, len(kept), len(pairs), *kept[0]))
    return found


def _words(phrase: str) -> re.Pattern[str]:
    """Finds the phrase as whole words; the parts of a hyphenated word are none."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return _pattern(rf"(?<![\w-])(?P<phrase>{words})(?:['’]s)?(?![\w-])")


def _joined(left: str, right: str) -> str:
    """What stood before and after the gap, as one text."""
    rest = LINKS.sub("", right, count=1) if (linked := LINKS.match(right)) else right
    if linked and not PREPOSITION.match(rest):
        before = ARTICLES.sub("", left)
        ending = ENDING.search(before)
        # "with [A] and B": B takes the place of A.
        if ending and not (right.startswith((",", ";")) and ending["other"]):
            return _join(before, rest)
    if not right or linked or PREPOSITION.match(right) or PUNCTUATION.match(right):
        return _join(_close(left, listed=bool(linked)), right)
    article = "an" if VOWEL.match(right) else "a"
    return _join(INDEFINITE.sub(lambda a: a[1] + article[1:], left), right)


def _close(left: str, *, listed: bool) -> str:
    """Without the words at its end that have lost their noun."""
    kept = DANGLING.sub("", left)
    conjunction = CONJUNCTION.search(left, len(kept))
    if conjunction and not listed:  # "A, B and" becomes "A and B"
        return LAST_COMMA.sub(f" {conjunction[0]} ", kept)
    return kept


def _join(left: str, right: str) -> str:
    if not left or left[-1] in ".!?":
        right = LEADING.sub("", right)
    return f"{left}{right}" if PUNCTUATION.match(right) else f"{left} {right}".strip()
