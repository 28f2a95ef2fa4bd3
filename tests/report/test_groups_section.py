"""The report's section of influence by group: its rows, pictures and names."""

import pytest

from ctrak_jax.report.groups import GroupQuestion, GroupRow, GroupTable
from ctrak_jax.report.groups.section import FIRST, GROUPS, ReportedGroups, group_views
from ctrak_jax.run.tops import Hit
from tests.report.made_up import HOSTILE, FakeRun, Outline, make_run

ASKED = GroupQuestion(query="one", attribute="color", value="red")


def table(groups: int, by: str = "artist") -> GroupTable:
    """Groups whose sums fall, each with eight first images of its own; the last has one image."""
    rows = [
        GroupRow(
            query="all",
            attribute="all",
            group=f"{n} {HOSTILE}",
            images=1 if n == groups - 1 else 1000 + n,
            total=2.5 - n,
            total_ci95=None if n == groups - 1 else (2.0 - n, 3.0 - n),
            mean=0.25 - n / 10,
            mean_ci95=None if n == groups - 1 else (0.2 - n / 10, 0.3 - n / 10),
            share=0.5 / (n + 1),
            base_rate=0.125,
            first=[Hit((8 * n + rank) % 120, 0.5 - rank / 100) for rank in range(8)],
        )
        for n in range(groups)
    ]
    return GroupTable(
        by=by, method="concept-trak", k=100, samples=120, questions=[ASKED, ASKED], rows=rows
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("groups"), seeds=(0, 3))


def section(groups: int, seed: int | None = 0) -> ReportedGroups:
    return ReportedGroups(
        scope="local",
        scenario="ood",
        overall=table(groups),
        concepts={f"color: {HOSTILE}": table(2)},
        seed=seed,
    )


def test_the_page_has_a_row_per_group_with_its_pictures(run: FakeRun) -> None:
    page = run.page(groups=[section(3)])
    part = page[page.index('<section id="groups">') : page.index('<section id="ablation">')]
    assert "artist: local, out of distribution" in part
    assert part.count("<tr><th scope=row>") == 3 + 2
    assert part.count('class="picture"') == (3 + 2) * FIRST
    assert "2.5</span>" in part
    assert "2 to 3</span>" in part
    assert "1,001" in part
    assert "dataset index 8, score 0.5" in part
    assert f"ctrak groups {run.out} --by COLUMN" in part
    assert "standardised" not in part
    assert "(training seed 3)" in run.page(groups=[section(3, seed=3)])
    averaged = run.page(groups=[section(3, seed=None)])
    assert "standardised" in averaged
    assert "(average of all training seeds)" in averaged
    alone = run._replace(seeds={0: run.seeds[0]})
    assert "(training seed 0)" not in alone.page(groups=[section(3)])
    assert 'id="groups"' not in run.page()


def test_hostile_names_stay_text_and_nothing_is_asked_from_outside(run: FakeRun) -> None:
    page = run.page(groups=[section(3)])
    assert HOSTILE not in page
    assert len(Outline(page).scripts) == len(Outline(run.page()).scripts)
    for _, attributes in Outline(page).tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


def test_only_the_groups_of_largest_sums_are_drawn(run: FakeRun) -> None:
    found = group_views([section(GROUPS + 5)], run.images)
    assert found is not None
    overall = found["sections"][0]["overall"]
    assert [row["group"].split()[0] for row in overall["rows"]] == list(map(str, range(GROUPS)))
    assert overall["more"] == 5
    assert group_views([], run.images) is None


def test_where_there_is_no_room_a_picture_is_left_out_and_says_so(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrak_jax.report.groups.section.SIZE", 1000)
    found = group_views([section(GROUPS)], run.images)
    assert found is not None
    first = [hit for row in found["sections"][0]["overall"]["rows"] for hit in row["first"]]
    assert any(hit["place"] for hit in first)
    assert any(hit["place"] is None for hit in first)
    assert all(hit["said"].startswith("dataset index ") for hit in first)
