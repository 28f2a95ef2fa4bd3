"""Draw the page and the pictures: writes ``report/``, and ``maps/`` where it shows any."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctrak_jax import hosts
from ctrak_jax.log import stage
from ctrak_jax.report import write_report
from ctrak_jax.report.groups.section import ReportedGroups
from ctrak_jax.run import questions
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.reader import SeedRun
from ctrak_jax.run.variants import MAIN, unnamed
from ctrak_jax.stages import ensemble, score
from ctrak_jax.stages.ask import groups, maps
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import digest, read_json


def run(out: Path, contexts: Sequence[Context]) -> None:
    """The report of all training seeds."""
    first, whole, retrained = contexts[0], RunFolder(root=out), out / "lds.json"
    key = {
        "metrics": read_json(out / "metrics.json", "evaluate"),
        "lds": digest(retrained.read_text()) if retrained.exists() else None,
        "questions": [questions.fingerprint(ctx.folder.queries) for ctx in contexts],
        **settings_of(first.config, "report"),
        **_scores_key(contexts),
    }
    if whole.fresh("report", key, out / "report" / "index.html"):
        return
    found = maps.run(_lowest(contexts), first.config.report.maps)
    together = _groups(out, contexts)
    with stage(out, "report"):
        write_report(
            out,
            seeds=[SeedRun(seed=c.seed, folder=c.folder, config=c.config) for c in contexts],
            images=first.dataset.raw.images,
            attributes=first.dataset.raw.attributes,
            title=first.config.name,
            methods=first.config.compared,
            candidates={
                part.without: first.candidates(part).train_index
                for part in (MAIN, *unnamed(first.config))
            },
            maps=found,
            groups=together,
        )
    whole.finish("report", key)


def _lowest(contexts: Sequence[Context]) -> Context:
    """The seed whose maps and groups are shown."""
    return min(contexts, key=lambda ctx: ctx.seed)


def _scores_key(contexts: Sequence[Context]) -> dict[str, Any]:
    """What maps and groups depend on beside the rest; nothing where the report shows none."""
    first, wanted = contexts[0], contexts[0].config.report
    if not wanted.maps and not wanted.groups:
        return {}
    columns = {name: first.dataset.grouped(name) for name in wanted.groups}
    return {
        "scores": [digest(score.key(ctx, MAIN)) for ctx in contexts],
        "columns": {n: digest([g.names, g.numbers.tolist()]) for n, g in columns.items()},
        "processes": hosts.count(),
    }


def _groups(out: Path, contexts: Sequence[Context]) -> list[ReportedGroups]:
    """Influence by group, of the average of all seeds where there is one, else of the lowest."""
    first = _lowest(contexts)
    if not first.config.report.groups:
        return []
    if not first.config.score.ensemble:
        score.require(first, MAIN)
        return groups.reported(first, averaged=False)
    ensemble.require(out, contexts)
    return groups.reported(ensemble.context_of(out, contexts), averaged=True)
