"""The page: `template.html` with style, script, tables and data put in; nothing from outside."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from ctrak_jax.data.raw import Images
from ctrak_jax.report import sections
from ctrak_jax.report.explorer import Explorer, build_explorer
from ctrak_jax.report.read import Metrics, SeedRun


def write_page(
    path: Path,
    *,
    title: str,
    metrics: Metrics,
    seeds: Sequence[SeedRun],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    limit: int,
) -> Path:
    """Write the page to `path` and return it.

    Args:
      path: where to.
      title: heading.
      metrics: tables and curves.
      seeds: queries and rankings by training seed.
      images: uint8 [N, H, W, 3].
      attributes: name -> N values.
      limit: most queries of one condition, scope and seed in the explorer.
    """
    explorer = build_explorer(seeds, images, attributes, metrics.base_rates, limit=limit)
    parts = {
        "title": escape(title),
        "style": _resource("page.css"),
        "script": _resource("page.js"),
        "data": script_json(explorer.data),
        "answer": sections.answer(metrics),
        "k": str(metrics.k),
        "setting": escape(_setting(seeds, explorer)),
        "main_table": sections.main_table(metrics),
        "explorer_note": escape(_explorer_note(explorer, limit)),
        "ladder": sections.ladder_table(metrics),
        "damping": sections.damping_section(metrics.damping),
        "controls": sections.controls_section(metrics),
        "attributes": sections.attribute_tables(metrics),
        "samples": sections.samples_section(seeds),
        "settings": sections.settings_section(metrics.settings),
    }
    # One pass: a value that happens to look like a placeholder is not filled in again.
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _resource("template.html"))
    path.write_text(page, encoding="utf-8")
    return path


def script_json(value: Any) -> str:
    """JSON that may stand inside a `<script>` element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _resource(name: str) -> str:
    return resources.files("ctrak_jax.report").joinpath(name).read_text(encoding="utf-8")


def _setting(seeds: Sequence[SeedRun], explorer: Explorer) -> str:
    names = ", ".join(str(run.seed) for run in seeds)
    plural = "seed" if len(seeds) == 1 else "seeds"
    return f"{explorer.total} report queries, training {plural} {names}."


def _explorer_note(explorer: Explorer, limit: int) -> str:
    if explorer.shown == explorer.total:
        return ""
    return (
        f"The first {limit} queries of each combination are here, {explorer.shown} of "
        f"{explorer.total}; the tables count all."
    )
