"""The explorer of a made-up run: what its index and blocks hold, in the page or beside it."""

import argparse
import base64
import io
import json
import shlex
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.cli.ask import attribute, questions
from ctrak_jax.errors import StoreError
from ctrak_jax.report import blocks, contact, explorer, thumbnails
from ctrak_jax.report.read import QueryImage
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import lowest
from tests.report.made_up import HOSTILE, METHODS, SCORED, SIZE, FakeRun, Outline, make_run


class Shown(NamedTuple):
    """The explorer's data as its page reads it."""

    index: Any
    blocks: dict[str, Any]

    def entry(self, kind: str, field: str, nth: int) -> Any:
        size = self.index["sizes"][kind]
        return self.blocks[f"{kind}-{nth // size}"][field][nth % size]

    def answers(self) -> list[tuple[int, list[Any], Any]]:
        """(seed, the index's entry of a query, its answers), query by query."""
        pairs = chain.from_iterable(
            ((run["seed"], query) for query in run["queries"]) for run in self.index["runs"]
        )
        return [(*pair, self.entry("answers", "queries", n)) for n, pair in enumerate(pairs)]

    def dataset_index(self, tile: int) -> int:
        return self.entry("tiles", "index", tile)


def inline(page: str) -> Shown:
    """The data in a page."""
    outline = Outline(page)
    names = [a["id"] for tag, a in outline.tags if tag == "script" and "id" in a]
    found = {
        str(name): json.loads(text) for name, text in zip(names, outline.scripts, strict=False)
    }
    return Shown(found.pop("index"), found)


def beside(page: Path) -> Shown:
    """The data of a page and of the files beside it."""
    found = {}
    for file in (page.parent / "data").glob("*.js"):
        name, value = file.read_text(encoding="utf-8").split(", ", 1)
        assert name == f'ctrak("{file.stem}"'
        found[file.stem] = json.loads(value.removesuffix(");\n"))
    return Shown(inline(page.read_text(encoding="utf-8")).index, found)


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("two"), seeds=(0, 3))


@pytest.fixture(scope="module")
def shown(two_seeds: FakeRun) -> Shown:
    return inline(two_seeds.page())


@pytest.mark.parametrize("unnamed", [False, True])
def test_framed_images_are_the_carriers_by_rank(
    two_seeds: FakeRun, shown: Shown, unnamed: bool
) -> None:
    framed = 0
    for number, query, answers in shown.answers():
        seed = two_seeds.seeds[number]
        for nth, answer in zip(query[3], answers, strict=True):
            concept = shown.index["concepts"][nth]
            name, values = concept["attribute"], two_seeds.attributes[concept["attribute"]]
            rows = answer[3 if unnamed else 2]
            assert len(rows) == len(METHODS)
            for method, largest, tiles, scores, carriers, highs in rows:
                found = seed.tops(
                    shown.index["methods"][method]["id"], without=name if unnamed else None
                )
                truth = found[query[0], name][:10]
                assert [shown.dataset_index(tile) for tile in tiles[:highs]] == [
                    hit.index for hit in truth
                ]
                np.testing.assert_allclose(
                    [largest * score / 1000 for score in scores[:highs]],
                    [hit.score for hit in truth],
                    atol=largest / 1000,
                )
                carrying = [str(int(values[hit.index] == concept["value"])) for hit in truth]
                assert list(carriers[:highs]) == carrying
                framed += carrying.count("1")
    assert framed > 0


def test_lowest_scores_are_those_of_all_candidates(two_seeds: FakeRun, shown: Shown) -> None:
    seen = set()
    for number, query, answers in shown.answers():
        seed = two_seeds.seeds[number]
        rows = [question.key for question in seed.questions]
        for nth, answer in zip(query[3], answers, strict=True):
            name = shown.index["concepts"][nth]["attribute"]
            for place, _, tiles, _, _, highs in answer[2]:
                method = shown.index["methods"][place]["id"]
                lows = [shown.dataset_index(tile) for tile in tiles[highs:]]
                if method not in SCORED:
                    assert lows == []
                    continue
                scores = seed.scores(method)[rows.index((query[0], name))]
                assert lows == np.argsort(scores, kind="stable")[:10].tolist()
                seen.add(method)
    assert seen == set(SCORED)


def test_the_lowest_of_equal_scores_are_the_first_rows() -> None:
    scores, index = np.array([2.0, 1.0, 1.0, 3.0, 1.0]), np.array([9, 8, 7, 6, 5])
    assert [hit.index for hit in lowest(scores, index, 2)] == [8, 7]
    assert [hit.index for hit in lowest(scores, index, 9)] == [8, 7, 5, 9, 6]


@pytest.mark.parametrize("values", [3, 10_000_000])
def test_the_lowest_of_many_scores_are_those_of_a_whole_sort(values: int) -> None:
    rng = np.random.default_rng(values)
    for count in (255, 256, 257, 5_000):
        scores = rng.integers(0, values, count).astype(np.float32)
        found = [hit.index for hit in lowest(scores, np.arange(count), 10)]
        assert found == np.argsort(scores, kind="stable")[:10].tolist()


def test_scores_of_other_candidates_are_refused(two_seeds: FakeRun) -> None:
    with pytest.raises(StoreError, match="scores of 120 candidates, expected 7"):
        two_seeds.seeds[0].bottoms("das", np.arange(7))


def test_thumbnails_show_the_images_they_name(two_seeds: FakeRun, shown: Shown) -> None:
    tile, numbers = shown.index["tile"], []
    for n, name in enumerate(name for name in shown.blocks if name.startswith("tiles")):
        block = shown.blocks[f"tiles-{n}"]
        assert name in shown.blocks
        source = base64.b64decode(block["src"].partition(",")[2])
        with Image.open(io.BytesIO(source)) as opened:
            pixels = np.asarray(opened)
        for place, index in enumerate(block["index"]):
            row, column = divmod(place, tile["columns"])
            cut = pixels[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
            np.testing.assert_array_equal(cut, two_seeds.images[index])
            values = [
                a["values"][codes[place]]
                for a, codes in zip(shown.index["attributes"], block["codes"], strict=True)
            ]
            assert values == [found[index] for found in two_seeds.attributes.values()]
        numbers += block["index"]
    assert len(numbers) == len(set(numbers)) == tile["drawn"]


def test_every_report_query_is_in_the_index_with_its_picture(
    two_seeds: FakeRun, shown: Shown
) -> None:
    assert [run["seed"] for run in shown.index["runs"]] == [0, 3]
    for nth, (number, query, _) in enumerate(shown.answers()):
        source = shown.entry("queries", "pictures", nth).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(source))) as found:
            pixels = np.asarray(found)
        folder = two_seeds.seeds[number].folder.queries
        with Image.open(folder / "images" / f"{query[0]}.png") as truth:
            np.testing.assert_array_equal(pixels, np.asarray(truth.convert("RGB")))
    for run in shown.index["runs"]:
        names = [query[0] for query in run["queries"]]
        assert len(names) == len(set(names)) == 9
        assert "circle-red-local-00" not in names  # a validation query


def test_a_large_report_loads_the_same_data_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    small = inline(run.page())
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(blocks, "INLINE", 0)
    large, page = beside(tmp_path / "index.html"), run.page()
    large = beside(tmp_path / "index.html")
    assert inline(page).blocks == {}
    assert large.index == small.index
    assert set(large.blocks) == set(small.blocks)
    for name, block in small.blocks.items():
        if "src" in block:
            source = base64.b64decode(block["src"].partition(",")[2])
            assert (tmp_path / large.blocks[name].pop("src")).read_bytes() == source
            block.pop("src")
        assert large.blocks[name] == block
    monkeypatch.undo()
    run.page()
    assert not (tmp_path / "data").exists()


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    page = make_run(tmp_path, hostile=True).page(title=HOSTILE)
    outline = Outline(page)
    assert "alert(1)</script>" not in page
    assert "alert(1)" not in outline.scripts
    assert len(outline.scripts) == 1 + 1 + len(inline(page).blocks)
    assert not [tag for tag, _ in outline.tags if tag == "b"]
    attributes = {a["name"]: a for a in inline(page).index["attributes"]}
    assert attributes["note"]["values"] == [HOSTILE]


def test_what_ends_a_script_is_escaped_and_read_back() -> None:
    value = {"a": HOSTILE, "b": "\u2028\u2029<!--"}
    text = blocks.script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def parsed(line: str) -> argparse.Namespace:
    """A command line as ``ctrak attribute`` reads it."""
    parser = argparse.ArgumentParser()
    attribute.declare(parser)
    program, name, *rest = shlex.split(line)
    assert (program, name) == ("ctrak", "attribute")
    return parser.parse_args(rest)


def test_every_local_question_has_its_command(two_seeds: FakeRun, shown: Shown) -> None:
    for number, query, answers in shown.answers():
        folder = two_seeds.seeds[number].folder
        for nth, answer in zip(query[3], answers, strict=True):
            if "global" in query[0]:
                assert answer[0] is None
                continue
            found = parsed(answer[0])
            asked = next(
                q
                for q in two_seeds.seeds[number].questions
                if q.key == (query[0], shown.index["concepts"][nth]["attribute"])
            )
            assert found.config == two_seeds.out
            assert found.image == folder.queries / asked.image
            assert found.concept == asked.attribute
            pairs = (pair.partition("=") for pair in found.condition.split(","))
            assert {name: value for name, _, value in pairs} == asked.condition


@pytest.mark.parametrize("name", ["-dash", "two words", "it's $HOME `ls`", "a;b|c>d"])
def test_commands_of_hostile_names_are_read_back(name: str) -> None:
    condition = {name: f"--{name}=x", "color": "red"}
    fields: dict[str, Any] = {"condition": condition, "scope": "local", "scenario": "id"}
    asked = Question(
        query="q", attribute=name, minus={}, split="report", image="images/q.png", **fields
    )
    image = Path("runs") / name / "q.png"
    query = QueryImage(id="q", image=image, questions=(asked,), **fields)
    line = explorer.command(Path("runs") / name, query, asked)
    assert line is not None
    found = parsed(line)
    assert (found.config, found.image) == (Path("runs") / name, image)
    assert found.concept == name
    assert found.condition == f"{name}=--{name}=x,color=red"


def test_a_part_of_an_image_is_asked_by_its_mask() -> None:
    fields: dict[str, Any] = {"condition": {"color": "red"}, "scenario": "id"}
    asked = Question(
        query="q@hat",
        attribute="color",
        minus={},
        split="report",
        image="images/q.png",
        mask="masks/q@hat.png",
        scope="local",
        **fields,
    )
    image = Path("run/queries/images/q.png")
    query = QueryImage(id="q@hat", image=image, questions=(asked,), scope=asked.about, **fields)
    line = explorer.command(Path("run"), query, asked)
    assert line is not None
    found = parsed(line)
    assert (found.image, found.mask) == (image, Path("run/queries/masks/q@hat.png"))
    assert (found.condition, found.concept) == ("color=red", "color")


def test_a_condition_that_no_flag_can_say_is_asked_by_its_prompt() -> None:
    condition = {"style": "ink, washed", "color": "red"}
    fields: dict[str, Any] = {"condition": condition, "scenario": "id"}

    def command(scope: str, prompt: str) -> str | None:
        asked = Question(
            query="q",
            attribute="style",
            minus={},
            split="report",
            image="q.png",
            prompt=prompt,
            minus_prompt="a red one" if prompt else "",
            scope=scope,  # type: ignore[arg-type]
            **fields,
        )
        query = QueryImage(id="q", image=Path("q.png"), questions=(asked,), scope=scope, **fields)
        return explorer.command(Path("run"), query, asked)

    assert command("local", "") is None
    assert command("global", "") is None
    for scope in ("local", "global"):
        line = command(scope, "a red one in ink, washed")
        assert line is not None
        found = parsed(line)
        assert (found.prompt, found.concepts) == ("a red one in ink, washed", ["ink, washed"])
        assert found.minus == ["a red one"]
        assert (found.image is None) == (scope == "global")
        questions.check_prompt(found)


# Bounds


def test_a_form_is_the_first_that_fits() -> None:
    forms = (thumbnails.Form(96, None), thumbnails.Form(48, 70), thumbnails.Form(24, 50))

    def size(form: thumbnails.Form, sample: Any) -> int:
        return 10 * form.side * len(sample)

    def choose(budget: int) -> thumbnails.FittingForm:
        return thumbnails.choose(forms, 1000, budget, size)

    assert choose(960_000) == (forms[0], 1000)
    assert choose(959_000) == (forms[1], 1000)
    assert choose(240_000) == (forms[2], 1000)
    assert choose(120_000) == (forms[2], 500)
    assert thumbnails.choose(forms, 0, 0, size) == (forms[0], 0)


def test_where_not_all_fit_the_best_placed_have_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr(explorer, "TILE_SIZE", (1_000, 1_000))
    page = run.page()
    found = inline(page)
    drawn = found.index["tile"]["drawn"]
    every = sum(len(b["index"]) for name, b in found.blocks.items() if name.startswith("tiles"))
    assert 0 < drawn < every
    assert f"{drawn} of the {every} training images that occur have a thumbnail" in page
    rows = [row for _, _, all_ in found.answers() for a in all_ for row in (*a[2], *a[3])]
    firsts = {row[2][n] for row in rows for n in (0, row[5]) if n < len(row[2])}
    assert set(range(drawn)) <= firsts
    sizes = [
        len(base64.b64decode(b.get("src", "").partition(",")[2])) for b in found.blocks.values()
    ]
    assert sum(sizes) < 2 * 1_000


def test_contact_sheets_of_many_questions_are_bounded_and_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    answers = run.answers(0)
    monkeypatch.setattr(contact, "MOST_QUESTIONS", 3)
    monkeypatch.setattr(contact, "MOST_BYTES", 100_000)
    written = contact.write_contact_sheets(
        tmp_path / "contact", answers, run.images, run.attributes
    )
    assert sum(path.stat().st_size for path in written) > 100_000
    sheets = [path.stem for path in written if path.stem.endswith("-unnamed")]
    combinations = [name.rsplit("-", 4)[0] for name in sheets]
    assert 0 < len(sheets) < 2 * len(answers.queries)
    # No combination has a second query before every other has its first.
    assert max(combinations.count(c) for c in combinations) <= 2
    assert not contact.has_all_sheets(answers)
