"""The explorer's switch *where*: which questions have maps, what their blocks hold, and the page in
Chromium."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.report import blocks
from ctrak_jax.report.explanation import explored
from ctrak_jax.report.explanation.maps import (
    MapFiles,
    QuestionMaps,
    key_of,
    mapped_method,
    read_maps,
    write_maps,
)
from ctrak_jax.report.explanation.overlay import NEGATIVE, POSITIVE
from tests.report.made_up import SIZE, FakeRun, make_run
from tests.report.test_browser import CHROMIUM, visit
from tests.report.test_explorer import inline

MAPPED = ("triangle-red-local-01", "color")
"""A question of the first seed that has maps."""
STEPS = """<script>
addEventListener("load", async () => {
  const at = (id) => document.getElementById(id);
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const until = async (holds) => {
    for (let n = 0; n < 100 && !holds(); n += 1) await sleep(100);
  };
  const filled = () => !document.querySelector("#rows .tile:not([title])");
  const key = (name) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const seen = {};
  const see = async (name) => {
    await sleep(100);
    await until(() => document.body.dataset.address === location.hash);
    dispatchEvent(new Event("beforeprint"));
    await until(filled);
    await sleep(200);
    const mapped = [...document.querySelectorAll("#rows .mapped")];
    seen[name] = {
      hash: location.hash,
      query: document.body.dataset.shown,
      rows: [...new Set(mapped.map((tile) => tile.closest(".row").dataset.method))],
      maps: mapped.length,
      low: mapped.filter((tile) => tile.closest(".low")).length,
      hidden: [at("query-image").hidden, at("query-map").hidden],
      checked: at("where").checked,
      disabled: at("where").disabled,
      title: at("where-switch").title,
      note: at("where-note").textContent,
      status: at("status").textContent,
      wide: document.documentElement.scrollWidth - innerWidth,
    };
  };
  await see("linked");
  key("w"); await see("off");
  at("where").focus(); at("where").click(); await see("clicked");
  key("c"); await see("other");
  key("w"); await see("left");
  key("w"); await see("refused");
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>"""


def with_maps(run: FakeRun, folder: Path, *, positive: bool = True) -> MapFiles:
    """Maps of one question: positive, or negative, in the upper half alone."""
    seed = min(run.seeds)
    query, attribute = MAPPED
    hits = run.answers(seed).hits["concept-trak", query, attribute]
    maps = np.zeros((len(hits), SIZE, SIZE), np.float32)
    maps[:, : SIZE // 2] = 1.0 if positive else -1.0
    found = QuestionMaps(index=np.array([h.index for h in hits]), maps=maps, query_maps=-maps)
    write_maps(folder / "one.npz", "key", found)
    return {(seed, *MAPPED): folder / "one.npz"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("maps"), seeds=(0, 3))


def test_maps_are_read_back_with_what_they_depend_on(run: FakeRun, tmp_path: Path) -> None:
    (path,) = with_maps(run, tmp_path).values()
    assert key_of(path) == "key"
    found = read_maps(path)
    assert found is not None
    assert found.maps.sum() == 10 * SIZE**2 / 2
    path.write_bytes(path.read_bytes()[:100])
    assert (key_of(path), read_maps(path)) == (None, None)
    assert key_of(tmp_path / "none.npz") is None


def test_concept_trak_has_maps_or_else_the_first_method_by_gradients() -> None:
    assert mapped_method(["das", "concept-trak", "labels"]) == "concept-trak"
    assert mapped_method(["unlearning", "das", "trak"]) == "das"
    assert mapped_method(["labels", "random"]) is None


@pytest.mark.parametrize("positive", [True, False])
def test_a_block_has_every_overlay_and_that_of_the_query(
    run: FakeRun, tmp_path: Path, positive: bool
) -> None:
    shown = inline(run.page(maps=with_maps(run, tmp_path, positive=positive)))
    about, block = shown.index["maps"], shown.blocks["maps-0"]
    assert (about["method"], about["count"], block["images"]) == ("concept-trak", 1, 10)
    picture = Image.open(io.BytesIO(base64.b64decode(block["src"].split(",")[1]))).convert("RGB")
    assert picture.size == (4 * SIZE, 3 * SIZE)
    rows = np.asarray(picture).reshape(3, SIZE, 4, SIZE, 3)
    sheet = rows.swapaxes(1, 2).reshape(12, SIZE, SIZE, 3)
    first, second = (POSITIVE, NEGATIVE) if positive else (NEGATIVE, POSITIVE)
    # The blur of the display reaches over the middle alone.
    assert (sheet[:10, : SIZE // 3] == first).all()
    assert (sheet[10, : SIZE // 3] == second).all()
    lower = sheet[:11, -SIZE // 3 :].astype(int)
    assert np.ptp(lower, axis=-1).max() == 0  # grey
    pointing = [
        (seed, query[0], answer[4])
        for seed, query, answers in shown.answers()
        for answer in answers
        if len(answer) > 4
    ]
    assert pointing == [(0, MAPPED[0], [0, 0])]


def test_maps_of_latents_lie_over_the_whole_picture(run: FakeRun, tmp_path: Path) -> None:
    """A quarter of the resolution; positive on the left alone."""
    files = with_maps(run, tmp_path)
    (path,) = files.values()
    whole = read_maps(path)
    assert whole is not None
    maps = np.zeros((10, SIZE // 4, SIZE // 4), np.float32)
    maps[..., : SIZE // 8] = 1.0
    write_maps(path, "key", QuestionMaps(index=whole.index, maps=maps, query_maps=maps))
    block = inline(run.page(maps=files)).blocks["maps-0"]
    picture = Image.open(io.BytesIO(base64.b64decode(block["src"].split(",")[1]))).convert("RGB")
    sheet = np.asarray(picture).astype(int)
    for nth in range(11):
        y, x = SIZE * (nth // 4), SIZE * (nth % 4)
        tile = sheet[y : y + SIZE, x : x + SIZE]
        assert np.abs(tile[:, : SIZE // 4] - POSITIVE).max() <= 4
        assert np.ptp(tile[:, -SIZE // 4 :], axis=-1).max() <= 4  # grey


def test_maps_of_other_images_are_not_shown(run: FakeRun, tmp_path: Path) -> None:
    files = with_maps(run, tmp_path)
    (path,) = files.values()
    found = read_maps(path)
    assert found is not None
    moved = QuestionMaps(index=found.index[::-1], maps=found.maps, query_maps=found.query_maps)
    write_maps(path, "key", moved)
    shown = inline(run.page(maps=files))
    assert shown.index["maps"]["count"] == 0
    assert "maps-0" not in shown.blocks


def test_all_maps_stay_below_their_size(
    run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explored, "SIZE", 10)
    shown = inline(run.page(maps=with_maps(run, tmp_path)))
    assert shown.index["maps"]["count"] == 0


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("beside", [True, False])
def test_the_switch_lays_maps_over_the_pictures(
    run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    if beside:
        monkeypatch.setattr(blocks, "INLINE", 0)
    page = run.page(maps=with_maps(run, tmp_path))
    address = f"#query={MAPPED[0]}&concept={MAPPED[1]}&candidates=named&where=1"
    seen, console = visit(run.out, page, address, tmp_path / "profile", STEPS)
    assert console == []
    assert all(step["wide"] <= 0 and step["status"] == "" for step in seen.values())
    for name in ("linked", "clicked"):
        step = seen[name]
        assert (step["rows"], step["maps"], step["low"]) == (["concept-trak"], 10, 0)
        assert (step["checked"], step["disabled"], step["hidden"]) == (True, False, [True, False])
        assert "adds to the score" in step["note"]
    off = seen["off"]
    assert (off["maps"], off["checked"], off["hidden"]) == (0, False, [False, True])
    assert (off["note"], "where=1" in off["hash"]) == ("", False)
    other = seen["other"]
    assert (other["query"], other["maps"]) == (MAPPED[0], 0)
    assert (other["checked"], other["disabled"], other["hidden"]) == (False, True, [False, True])
    asked = f"ctrak explain {run.out} --query {MAPPED[0]} --concept shape --seed 0;"
    assert asked in other["note"]
    assert other["note"] == other["title"]
    assert f"ctrak report {run.out} --report.maps N" in other["note"]
    # A question without maps can be left, and not asked for any.
    assert "where" not in seen["left"]["hash"]
    assert seen["left"]["note"] == ""
    assert "where" not in seen["refused"]["hash"]


def test_the_index_says_how_to_get_maps_where_there_are_none(run: FakeRun) -> None:
    page = run.page()
    about = json.loads(json.dumps(inline(page).index["maps"]))
    assert about["count"] == 0
    assert about["explain"] == f"ctrak explain {run.out}"
