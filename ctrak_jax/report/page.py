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
from ctrak_jax.report.read import Answers, Results


def write_page(
    path: Path,
    *,
    title: str,
    results: Results,
    seeds: Sequence[Answers],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    limit: int,
) -> Path:
    """Write the page to `path` and return it.

    Args:
      path: where to.
      title: heading.
      results: tables and curves.
      seeds: queries and rankings by training seed.
      images: uint8 [N, H, W, 3].
      attributes: name -> N values.
      limit: most queries of one condition, scope and seed in the explorer.
    """
    explorer = build_explorer(seeds, images, attributes, results.base_rates, limit=limit)
    parts = {
        "title": escape(title),
        "style": _resource("page.css"),
        "script": _resource("page.js"),
        "data": script_json(explorer.data),
        "answer": sections.answer(results),
        "k": str(results.k),
        "setting": escape(_setting(seeds, explorer)),
        "main_table": sections.main_table(results),
        "explorer_note": escape(_explorer_note(explorer, limit)),
        "ladder": sections.ladder_table(results),
        "damping": sections.damping_section(results.damping),
        "controls": sections.controls_section(results),
        "attributes": sections.attribute_tables(results),
        "samples": sections.samples_section(seeds),
        "settings": sections.settings_section(results.settings),
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


def _setting(seeds: Sequence[Answers], explorer: Explorer) -> str:
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
