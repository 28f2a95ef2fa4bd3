"""Where the page of an explanation goes: another question has another page."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ctrak_jax import cli
from ctrak_jax.cli.ask import groups, questions
from ctrak_jax.cli.ask.explained import page_of
from ctrak_jax.config import Config
from ctrak_jax.report import groups as report
from tests.cli.small import write_config

QUESTION = {
    "prompt": None,
    "query": None,
    "image": Path("a.png"),
    "condition": "color=red",
    "mask": None,
    "minus": (),
    "reward": None,
    "method": "concept-trak",
    "seed": None,
}
BY_PROMPT = {**QUESTION, "prompt": "a red hat " * 60, "image": None, "image_seed": 0}


def page(question: dict, damping: tuple[float, ...] = (10.0, 100.0), seed: int = 0) -> Path:
    config = Config.model_validate({"score": {"damping": damping}})
    ctx = SimpleNamespace(config=config, folder=SimpleNamespace(root=Path("run")), seed=seed)
    found = page_of(Namespace(**question), ctx, "color")
    assert found.parent == Path("run/explanations")
    assert len(found.name.encode()) <= 250
    return found


def test_the_same_question_has_the_same_page():
    assert page(QUESTION) == page(dict(QUESTION))
    assert page(QUESTION).name.startswith("a-color_red-color-concept-trak-")


@pytest.mark.parametrize("start", [QUESTION, BY_PROMPT], ids=["attributes", "prompt"])
def test_another_question_has_another_page(start):
    rewards = (
        "python:a.py:color",
        "python:b.py:color",
        "python:a/b.py:color",
        "python:a_b.py:color",
    )
    others = [{"method": "reward", "reward": reward} for reward in rewards]
    others += [{"method": "trak"}, {"seed": 1}, {"mask": Path("m.png")}, {"image": Path("b/a.png")}]
    pages = {page(start), *(page(start | other) for other in others)}
    assert len(pages) == 1 + len(others)


def test_another_damping_has_another_page():
    given = {"score.damping": "[100]"}
    assert page(QUESTION | given, (100.0,)) != page(QUESTION | given, (1000.0,))
    assert page(QUESTION | given, (100.0,)) != page(QUESTION)
    assert page(QUESTION | given) == page(QUESTION)  # of several the chosen one


def test_groups_of_other_concepts_of_a_prompt_have_another_folder(tmp_path, monkeypatch, capsys):
    asked = ("groups", write_config(tmp_path), "--by", "artist", "--json", "--prompt", "a red hat")
    folders: list[Path] = []

    def write(folder: Path, _table: object) -> list[Path]:
        folders.append(folder)
        return [Path(asked[1])]

    ctx = SimpleNamespace(config=Config(), folder=SimpleNamespace(root=Path("run")), seed=0)
    monkeypatch.setattr(questions, "context", lambda _args: ctx)
    monkeypatch.setattr(groups, "_of_own", lambda *_: None)
    monkeypatch.setattr(report, "write_groups", write)
    about = (["red"], ["hat"], ["red", "hat"], ["red", "--minus", "hat"], ["red"])
    for concepts in about:
        assert cli.main([*map(str, asked), "--concepts", *concepts]) == 0
    *others, again = folders
    assert len(set(others)) == len(others)
    assert again == others[0]
    assert "-hat-concept-trak-" in others[1].name


def test_a_long_prompt_of_wide_letters_is_cut_to_a_file_name():
    assert page({**BY_PROMPT, "prompt": "帽" * 300}).suffix == ".html"
