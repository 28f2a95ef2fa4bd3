"""The tables of the AbC benchmark."""

import pytest

from ctrak_jax.methods import ABLATION
from ctrak_jax.retrieval import Retrieval, TaskResult, summarise
from ctrak_jax.terminal.abc import PUBLISHED_RECALL_AT_10, ablation_table, benchmark_table
from tests.test_retrieval import RESULTS, result


def cells(table: str) -> list[list[str]]:
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are even"
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def test_the_table_has_methods_as_rows_and_metrics_as_columns():
    found = cells(benchmark_table(summarise(RESULTS, 500)))
    assert found[0] == ["method", "tasks", "Recall@5", "Recall@10", "Recall@100", "mAP"]
    assert set(found[1][2].strip(":")) == {"-"}
    assert [row[:2] for row in found[2:]] == [["Concept-TRAK", "3"], ["TRAK", "3"]]
    assert [row[4] for row in found[2:]] == ["1.000 [1.000, 1.000]"] * 2
    assert [row[3].split()[0] for row in found[2:]] == ["0.900", "0.300"]
    assert [row[5].split()[0] for row in found[2:]] == ["0.700", "0.200"]


def test_the_table_by_test_case_has_a_row_for_each_method_in_each():
    found = cells(benchmark_table(summarise(RESULTS, 500), "test_case"))
    assert found[0][:3] == ["test case", "method", "tasks"]
    assert [row[:2] for row in found[2:]] == [
        [case, method]
        for case in ("test_artchive", "test_bamfg", "test_observed_imagenet")
        for method in ("Concept-TRAK", "TRAK")
    ]
    assert found[2][-1] == "0.700 [0.700, 0.700]"


def test_the_ablation_stands_beside_the_published_figures():
    steps = [
        result(method, "test_bamfg", "art", value, 0.5)
        for method, value in (
            ("concept-trak", 0.9),
            ("ablation-c", 0.6),
            ("ablation-base", 0.1),
            ("trak", 0.2),
        )
    ]
    found = cells(ablation_table(summarise(steps, 100)))
    assert [row[0] for row in found] == ["step", found[1][0], "Base", "A", "B", "C", "Concept-TRAK"]
    assert [row[3] for row in found[2:]] == ["0.040", "0.261", "0.335", "0.564", "0.955"]
    assert [row[2].split()[0] for row in found[2:]] == ["0.100", "-", "-", "0.600", "0.900"]
    assert tuple(PUBLISHED_RECALL_AT_10) == ABLATION


def test_an_ablation_without_a_step_or_a_depth_is_refused():
    with pytest.raises(ValueError, match="no result of a step of the ablation"):
        ablation_table(summarise(RESULTS[:1], 10))
    shallow = TaskResult("ablation-a", {}, Retrieval({5: 1.0}, {5: 1.0}, 1.0))
    with pytest.raises(ValueError, match=r"ablation-a: no Recall@10, got the depths \[5\]"):
        ablation_table(summarise([shallow], 10))
