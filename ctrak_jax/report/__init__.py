"""The report of a run: a self-contained page, charts and contact sheets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ctrak_jax.data.raw import Images
from ctrak_jax.errors import UsageError
from ctrak_jax.report.contact import write_contact_sheets
from ctrak_jax.report.explanation.maps import MapFiles
from ctrak_jax.report.groups.section import ReportedGroups
from ctrak_jax.report.page import write_page
from ctrak_jax.report.read import answers_of, results_of
from ctrak_jax.report.sheets import write_answer, write_counterfactual_sheet
from ctrak_jax.run.metrics import read_metrics
from ctrak_jax.run.reader import SeedRun
from ctrak_jax.run.retraining import read_lds

__all__ = ["write_answer", "write_counterfactual_sheet", "write_report"]


def write_report(
    out: Path,
    *,
    seeds: Sequence[SeedRun],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    title: str,
    methods: Sequence[str] | None = None,
    candidates: Mapping[str | None, np.ndarray] | None = None,
    maps: MapFiles | None = None,
    groups: Sequence[ReportedGroups] = (),
) -> list[Path]:
    """Write ``out/report/``: ``index.html``, what it loads where there are many queries
    (``data/``), charts, and contact sheets of the lowest seed.

    Args:
        out: folder that holds ``metrics.json``, and ``lds.json`` where models were retrained.
        seeds: the results of every training seed.
        images: uint8 [N, H, W, 3], the whole data set, by dataset index.
        attributes: attribute name -> N values, by dataset index.
        title: heading of the page.
        methods: whose rankings are shown; None for all that the run has.
        candidates: the dataset indices that are ranked, by the attribute that their conditions do
            not name (None: main rankings), where the lowest scores are to be shown, too.
        maps: where the scores of some questions' first images come from.
        groups: influence by columns of the data set.

    Returns:
        Every file written, the page first.

    Raises:
        StoreError: a file of the run is missing or damaged; says which and what to run.
        UsageError: images, attributes and queries do not fit together.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UsageError(
            f"images: got {images.dtype} {list(images.shape)}, expected uint8 [N, H, W, 3]"
        )
    for name, values in attributes.items():
        if len(values) != len(images):
            raise UsageError(f"attributes[{name!r}]: {len(values)} values, {len(images)} images")
    if not seeds:
        raise UsageError("seeds is empty; give at least one training seed's results")
    from ctrak_jax.report.figures import PRECISION, write_figures  # loads matplotlib

    results = results_of(read_metrics(out / "metrics.json"))
    answers = [
        answers_of(
            run,
            images=len(images),
            attributes=list(attributes),
            methods=methods,
            unnamed=results.unnamed_attributes,
            candidates=candidates,
        )
        for run in sorted(seeds, key=lambda run: run.seed)
    ]
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    lds = read_lds(out / "lds.json") if (out / "lds.json").exists() else None
    figures = write_figures(folder, results)
    sheets = write_contact_sheets(folder / "contact", answers[0], images, attributes)
    pages = write_page(
        folder / "index.html",
        title=title,
        results=results,
        seeds=answers,
        images=images,
        attributes=attributes,
        run=out,
        contact=sheets,
        chart=next((path for path in figures if path.name == PRECISION), None),
        maps=maps,
        groups=groups,
        lds=lds,
        scatters=sorted((out / "lds").glob("scatter-*.png")) if lds else (),
    )
    return [*pages, *figures, *sheets]
