"""The page: ``page.html`` with style, script, tables and data put in; nothing from outside."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from ctrak_jax.data.raw import Images
from ctrak_jax.report import measures, tables
from ctrak_jax.report.explorer import build_explorer, data_uri
from ctrak_jax.report.labels import MAIN, label
from ctrak_jax.report.read import Answers, Results
from ctrak_jax.run.retraining import LdsTable


def write_page(
    path: Path,
    *,
    title: str,
    results: Results,
    seeds: Sequence[Answers],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    limit: int,
    chart: Path | None = None,
    lds: LdsTable | None = None,
    scatters: Sequence[Path] = (),
) -> Path:
    """Write the page, and return its path; its explorer shows at most ``limit`` queries of one
    condition, scope and seed. ``chart`` is the picture of the main tables where there are both
    measures, ``scatters`` are pictures that go with ``lds``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrak_jax.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
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
        explorer=build_explorer(seeds, images, attributes, results.base_rates, limit=limit),
        limit=limit,
        main_tables=measures.main_tables(results),
        chart=data_uri(chart.read_bytes()) if chart and results.unnamed else None,
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
        scatters=[data_uri(path.read_bytes()) for path in scatters],
        samples={a.seed: data_uri(a.samples.read_bytes()) for a in seeds if a.samples is not None},
        settings=list(tables.settings(results.settings)),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _own(name: str) -> Markup:
    """A file of this package as it is."""
    return Markup(resources.files("ctrak_jax.report").joinpath(name).read_text(encoding="utf-8"))
