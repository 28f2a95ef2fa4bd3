"""Whose rows are candidates under a control, and under which prompt."""

from pathlib import Path

import numpy as np
import pytest

from ctrak_jax.abc.controls import CONTROLS, controlled, spare_rows
from ctrak_jax.abc.inputs import Exemplars, TaskPrompt
from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError

ONE, TWO = TaskPrompt("a <new1> hat", Path("one.bin")), TaskPrompt("art of <b>", Path("two.bin"))
FILES = (Path("0.png"), Path("1.png"), Path("2.png"))
EXEMPLARS = Exemplars(FILES, (), (ONE, ONE, TWO), ((0, 1), (2,), (0, 1)))
SPARE = np.array([5, 7, 8, 9])


def of(name: str, count: int = 3, seed: int = 0) -> Exemplars:
    return controlled(EXEMPLARS, CONTROLS[name], SPARE, count, seed)


def test_exemplars_without_the_token():
    found = of("without-token")
    assert [prompt.text for prompt in found.prompts] == ["a hat", "a hat", "art"]
    assert found._replace(prompts=EXEMPLARS.prompts) == EXEMPLARS


def test_a_prompt_of_the_token_alone_becomes_the_empty_one():
    alone = Exemplars(FILES[:1], (), (TaskPrompt("a <new1>", Path("one.bin")),), ((0,),))
    found = controlled(alone, CONTROLS["without-token"], SPARE, 3, 0)
    assert found.prompts == (TaskPrompt(""),)


def test_decoys_stand_under_the_prompt_of_their_model():
    found = of("decoys")
    assert found.files == FILES
    assert found.of == ((0, 1, 3, 4, 5), (2, 6, 7, 8), (0, 1, 3, 4, 5))
    assert found.prompts == (ONE, ONE, TWO, *[ONE] * 3, *[TWO] * 3)
    first, second = found.decoys[:3], found.decoys[3:]
    for drawn in (first, second):
        assert len({*drawn}) == 3
        assert {*drawn} <= {*SPARE.tolist()}
    assert of("decoys") == found
    assert any(of("decoys", seed=seed).decoys != found.decoys for seed in range(1, 9))


def test_both():
    found, decoys = of("decoys-without-token"), of("decoys")
    assert [prompt.text for prompt in found.prompts[3:]] == ["a hat"] * 3 + ["art"] * 3
    assert (found.decoys, found.of) == (decoys.decoys, decoys.of)


def test_more_decoys_than_rows_are_refused():
    with pytest.raises(UsageError, match=r"data\.decoys=5 .* there are 4"):
        of("decoys", count=5)


def test_spare_rows_are_no_candidates():
    assert spare_rows(np.array([4, 0, 2]), 6).tolist() == [1, 3, 5]


def test_a_run_has_none_of_these_controls():
    with pytest.raises(ValueError, match=r"controls has decoys, which data\.kind=synthetic"):
        Config(controls=("decoys",))
