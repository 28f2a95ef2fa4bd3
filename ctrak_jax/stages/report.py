"""Draw the page and the pictures: writes ``report/``."""

from collections.abc import Sequence
from pathlib import Path

from ctrak_jax.log import stage
from ctrak_jax.report import write_report
from ctrak_jax.run import questions
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.reader import SeedRun
from ctrak_jax.run.variants import MAIN, unnamed
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
    }
    if whole.fresh("report", key, out / "report" / "index.html"):
        return
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
        )
    whole.finish("report", key)
