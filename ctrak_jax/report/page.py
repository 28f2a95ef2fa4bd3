"""The page: ``web/page.html`` with style, script, tables and data put in; nothing from outside."""

import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from ctrak_jax.data.raw import Images
from ctrak_jax.report import measures, tables
from ctrak_jax.report.blocks import Blocks, data_uri, script_json
from ctrak_jax.report.contact import has_all_sheets
from ctrak_jax.report.explanation.maps import MapFiles
from ctrak_jax.report.explorer import write_explorer
from ctrak_jax.report.groups.section import ReportedGroups, group_views
from ctrak_jax.report.labels import MAIN, label
from ctrak_jax.report.read import Answers, Results, versions_of
from ctrak_jax.run.retraining import LdsTable


def write_page(
    path: Path,
    *,
    title: str,
    results: Results,
    seeds: Sequence[Answers],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    run: Path,
    maps: MapFiles | None = None,
    groups: Sequence[ReportedGroups] = (),
    contact: Sequence[Path] = (),
    chart: Path | None = None,
    lds: LdsTable | None = None,
    scatters: Sequence[Path] = (),
) -> list[Path]:
    """Write the page and what its explorer loads, and return the paths, the page first.

    Args:
        path: of the page.
        title: its heading.
        results: the numbers.
        seeds: queries and rankings.
        images: uint8 [N, H, W, 3], by dataset index.
        attributes: attribute name -> N values, by dataset index.
        run: the run's folder, as its commands are to name it.
        maps: where the scores of some questions' first images come from.
        groups: influence by columns of the data set.
        contact: the contact sheets of the first seed.
        chart: the picture of the main tables where there are both measures.
        lds: what retraining gave.
        scatters: pictures that go with it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrak_jax.report", "web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    blocks = Blocks(path.parent / "data")
    explorer = write_explorer(
        blocks, seeds, images, attributes, results.base_rates, run=run, maps=maps or {}
    )
    page = environment.get_template("page.html").render(
        title=title,
        style=_own("page.css"),
        script=_own("page.js"),
        k=results.k,
        main_method=label(MAIN).short,
        headlines=measures.headlines(results),
        unnamed=bool(results.unnamed),
        conditions=measures.conditions_of(results),
        seeds=[answers.seed for answers in seeds],
        total=sum(len(answers.queries) for answers in seeds),
        explorer=explorer,
        index=script_json(explorer.index),
        blocks=blocks.inline,
        beside=bool(blocks.files),
        lowest=any(answers.lowest for answers in seeds),
        sheets=len(contact),
        all_sheets=has_all_sheets(seeds[0]),
        versions=versions_of([run, *(answers.folder for answers in seeds)]),
        main_tables=measures.main_tables(results),
        chart=data_uri(chart.read_bytes(), "png") if chart and results.unnamed else None,
        groups=group_views(groups, images),
        groups_command=shlex.join(["ctrak", "groups", str(run), "--by", "COLUMN"]),
        ladder=tables.ladder_table(results),
        plots=tables.plots(results.damping),
        without_embedding=tables.without_embedding(results),
        wrong_labels=tables.wrong_labels(results),
        hidden_tables=tables.hidden_tables(results),
        hidden_k=results.hidden.k if results.hidden else 0,
        attribute_tables=measures.attribute_tables(results),
        lds=tables.lds_tables(lds),
        lds_differences=tables.lds_differences(lds),
        models=lds.models if lds else "",
        lds_repeated=lds is not None and lds.trainings > 1,
        scatters=[data_uri(path.read_bytes(), "png") for path in scatters],
        samples={
            a.seed: data_uri(a.samples.read_bytes(), "png") for a in seeds if a.samples is not None
        },
        settings=list(tables.settings(results.settings)),
    )
    path.write_text(page, encoding="utf-8")
    return [path, *blocks.files]


def _own(name: str) -> Markup:
    """A file of this package as it is."""
    return Markup(
        resources.files("ctrak_jax.report").joinpath("web", name).read_text(encoding="utf-8")
    )
