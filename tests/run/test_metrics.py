"""The summary of metrics.json: means over concepts, images and seeds."""

import pytest

from ctrak_jax.metrics import Among
from ctrak_jax.run.metrics import HiddenRow, PrecisionRow, summarise, summarise_hidden


def row(seed: int, query: str, attribute: str, precision: float, **changes) -> PrecisionRow:
    fields = {
        "method": "trak", "scope": "local", "scenario": "ood", "k": 10, "base_rate": 0.5,
        "seed": seed, "query": query, "attribute": attribute, "value": "v", "precision": precision,
    }  # fmt: skip
    return PrecisionRow(**(fields | changes))


def test_the_summary_averages_concepts_then_images_then_seeds():
    rows = [
        row(0, "a", "shape", 1.0), row(0, "a", "color", 0.0), row(0, "b", "shape", 1.0),
        row(1, "a", "shape", 0.2), row(1, "a", "color", 0.2),
    ]  # fmt: skip
    found = {entry.attribute: entry for entry in summarise(rows, 200)}
    assert set(found) == {"all", "shape", "color"}
    # Seed 0: image a has (1 + 0) / 2, image b has 1; seed 1: image a has 0.2.
    assert found["all"].precision == pytest.approx((0.75 + 0.2) / 2)
    assert found["shape"].precision == pytest.approx((1.0 + 0.2) / 2)
    assert found["color"].precision == pytest.approx((0.0 + 0.2) / 2)
    assert [found[name].queries for name in ("all", "shape", "color")] == [3, 3, 2]
    low, high = found["all"].ci95
    assert 0.2 - 1e-9 <= low <= found["all"].precision <= high <= 1.0


def test_the_summary_keeps_methods_scopes_scenarios_and_depths_apart():
    changes = [{}, {"method": "das"}, {"scope": "global"}, {"scenario": "id"}, {"k": 20}]
    rows = [row(0, "a", "shape", n / 10, **change) for n, change in enumerate(changes)]
    found = [entry for entry in summarise(rows, 100) if entry.attribute == "all"]
    assert [entry.precision for entry in found] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert all(entry.queries == 1 for entry in found)


def test_the_summary_of_hidden_carriers_keeps_apart_what_was_ranked():
    about = {"scope": "local", "scenario": "ood", "attribute": "hair", "value": "red", "k": 50}
    found_at: list[tuple[str, Among, float]] = [
        ("a", "all", 0.2),
        ("b", "all", 0.6),
        ("a", "labelled", 1.0),
    ]
    rows = [
        HiddenRow(
            **about,
            seed=0,
            method="trak",
            query=query,
            among=among,
            precision=precision,
            recall=precision / 2,
            base_rate=0.1,
        )
        for query, among, precision in found_at
    ]
    found = {(s.among, s.attribute): s for s in summarise_hidden(rows, 200)}
    assert set(found) == {(a, name) for a in ("all", "labelled") for name in ("all", "hair")}
    share = found["all", "all"]
    assert (share.precision, share.recall, share.queries) == pytest.approx((0.4, 0.2, 2))
    assert share.intervals[0] == (share.precision, *share.precision_ci95)
    assert share.precision_ci95 == pytest.approx((0.2, 0.6))
    assert found["labelled", "hair"].precision == 1.0
