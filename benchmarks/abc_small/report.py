"""The tables of the benchmark."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.abc_small.measures import (
    FORMS,
    MEASURES,
    PUBLISHED,
    Customisation,
    Ends,
    Found,
    best_damping,
    by_damping,
    cell,
    ends_of,
    interval,
    reference,
    table,
)
from ctrak_jax.methods import ABLATION
from ctrak_jax.terminal.abc import PUBLISHED_RECALL_AT_10

NAMES = {
    "concept-trak": "Concept-TRAK (D)",
    "default": "Concept-TRAK by default",
    "ablation-c": "C",
    "ablation-b": "B",
    "ablation-a": "A",
    "ablation-base": "base = TRAK",
    "d-trak": "D-TRAK",
    "das": "DAS",
    "unlearning": "unlearning",
    "similarity-latents": "*similarity of latents*",
    "labels": "*labels*",
    "random": "*random*",
}
"""Rows of the tables, in order. By default: candidates on forward noise under the null condition,
whatever their prompt is."""
RIVALS = ("ablation-base", "d-trak", "das")


class Collected(NamedTuple):
    """The reported customisations, by form of the candidates and by method.

    Attributes:
        found: the measures.
        dampings: chosen on the customisations that are not reported.
        curve: Recall@10 as published at every damping, of the reported customisations.
        ends: where their exemplars stand.
    """

    found: dict[tuple[str, str], Found]
    dampings: dict[tuple[str, str], float]
    curve: dict[str, dict[float, float]]
    ends: dict[tuple[str, str], Ends]


def collected(
    runs: Mapping[str, tuple[Path, str]],
    references: tuple[Path, Sequence[str]],
    unlearned: Found,
    tuning: set[str],
) -> Collected:
    """Everything that was found.

    Args:
        runs: folder of a run and method there, by row of the tables.
        references: folder of a run and its references.
        unlearned: what unlearning found.
        tuning: customisations that are not reported.
    """

    def reported(found: Found) -> Found:
        return found.where([one.name not in tuning for one in found.customisations])

    result = Collected({}, {}, {}, {})
    for form in FORMS:
        for row, (run, method) in runs.items():
            every = by_damping(run, form, method)
            chosen = best_damping(
                {
                    r: one.where([c.name in tuning for c in one.customisations])
                    for r, one in every.items()
                }
            )
            result.dampings[form, row] = chosen
            result.found[form, row] = reported(every[chosen])
            result.ends[form, row] = ends_of(run, form, method, chosen, tuning)
            if form == PUBLISHED:
                result.curve[row] = {
                    r: float(reported(one).of("recall@10").mean()) for r, one in every.items()
                }
        folder, names = references
        for name in names:
            result.found[form, name] = reported(reference(folder, form, name))
    result.found[PUBLISHED, "unlearning"] = reported(unlearned)
    return result


def written(found: Collected) -> str:
    """All tables."""
    return "\n".join(
        [
            *(main_table(found), ladder(found), differences(found), forms_table(found)),
            groups_table(found, "kind", lambda one: one.kind),
            groups_table(found, "exemplars", lambda one: f"{one.exemplars}"),
            *(ends_table(found), dampings_table(found)),
        ]
    )


def main_table(found: Collected) -> str:
    """Measures as published."""
    rows = [
        [NAMES[method], *(cell(interval(one.of(name))) for name in MEASURES[:-1])]
        for method, one in _rows(found, PUBLISHED)
    ]
    return table(["as published", *MEASURES[:-1]], rows)


def ladder(found: Collected) -> str:
    """The ablation as the paper prints it."""
    rows = [
        [
            NAMES[method],
            cell(interval(found.found[PUBLISHED, method].of("recall@10"))),
            f"{PUBLISHED_RECALL_AT_10[method]:.3f}",
        ]
        for method in ABLATION
    ]
    return table(["step", "Recall@10", "published on AbC"], rows)


def differences(found: Collected) -> str:
    """Concept-TRAK less the others, paired by customisation."""
    ours = found.found[PUBLISHED, "concept-trak"].of("recall@10")
    rows = [
        [f"D - {NAMES[name]}", cell(interval(ours - found.found[PUBLISHED, name].of("recall@10")))]
        for name in dict.fromkeys(["ablation-c", "ablation-b", "ablation-a", *RIVALS, "default"])
    ]
    lower = found.found[PUBLISHED, "ablation-c"].of("recall@10")
    base = found.found[PUBLISHED, "ablation-base"].of("recall@10")
    return table(
        ["difference of Recall@10", "mean"], [*rows, ["C - base", cell(interval(lower - base))]]
    )


def forms_table(found: Collected) -> str:
    """Recall@10 by form of the candidates, and how often an exemplar is above a decoy."""
    decoys = [form for form in FORMS if form.startswith("decoys")]
    columns = [*((form, "recall@10") for form in FORMS), *((f, MEASURES[-1]) for f in decoys)]

    def of(form: str, method: str, name: str) -> str:
        one = found.found.get((form, method))
        values = np.array([np.nan]) if one is None else one.of(name)
        return "" if np.isnan(values).any() else cell(interval(values))

    rows = [
        [NAMES[method], *(of(form, method, name) for form, name in columns)]
        for method, _ in _rows(found, PUBLISHED)
    ]
    header = [form if name == "recall@10" else f"{form}: {name}" for form, name in columns]
    return table(["Recall@10", *header], rows)


def groups_table(found: Collected, title: str, group: Callable[[Customisation], str]) -> str:
    """Recall@10 as published by groups of customisations."""
    any_found = found.found[PUBLISHED, "concept-trak"].customisations
    values = list(dict.fromkeys(map(group, any_found)))
    rows = [
        [
            NAMES[method],
            *(
                cell(
                    interval(one.where([group(c) == v for c in one.customisations]).of("recall@10"))
                )
                for v in values
            ),
        ]
        for method, one in _rows(found, PUBLISHED)
    ]
    return table([f"Recall@10 by {title}", *values], rows)


def ends_table(found: Collected) -> str:
    """Where exemplars stand among the portraits, as published and by the picture alone."""
    forms = (PUBLISHED, "decoys-without-token")
    header = [f"{form}: {what}" for form in forms for what in ("top 1%", "bottom 1%", "distance")]
    rows = []
    for method in NAMES:
        if (PUBLISHED, method) in found.ends:
            ends = [found.ends[form, method] for form in forms]
            cells = [f"{e.top:.0%}|{e.bottom:.0%}|{e.distance:.1f}".split("|") for e in ends]
            rows.append([NAMES[method], *(value for each in cells for value in each)])
    return table(["exemplars", *header], rows)


def dampings_table(found: Collected) -> str:
    """The dampings chosen, and what others would have given."""
    grid = list(next(iter(found.curve.values())))
    rows = [
        [
            NAMES[method],
            *(f"{found.dampings[form, method]:g}" for form in FORMS),
            *(f"{value:.2f}" for value in curve.values()),
        ]
        for method, curve in found.curve.items()
    ]
    return table(["damping r", *FORMS, *(f"r = {r:g}" for r in grid)], rows)


def document(found: Collected) -> dict[str, Any]:
    """Every number by form, method and customisation."""
    return {
        form: {
            method: {
                "damping": found.dampings.get((form, method)),
                **{
                    c.name: {
                        name: value
                        for name, value in zip(MEASURES, values.tolist(), strict=True)
                        if not np.isnan(value)
                    }
                    for c, values in zip(one.customisations, one.values, strict=True)
                },
            }
            for (other, method), one in found.found.items()
            if other == form
        }
        for form in FORMS
    }


def _rows(found: Collected, form: str) -> Iterator[tuple[str, Found]]:
    for method in NAMES:
        if (form, method) in found.found:
            yield method, found.found[form, method]
