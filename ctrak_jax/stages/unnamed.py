"""Questions about attributes, answered by features that do not name the attribute.

Where ``trajectory.condition`` is ``unnamed`` the main answer of Concept-TRAK to a question about an
attribute is that of the variant without it: the candidates' conditions say everything else. A
concept that is no attribute is asked of the main features, under the null condition.
"""

from dataclasses import replace

from ctrak_jax.methods import CONCEPT_METHODS
from ctrak_jax.run.dampings import Damping, mean_curve, read_dampings
from ctrak_jax.run.tops import read_tops, write_tops
from ctrak_jax.run.variants import Variant, unnamed
from ctrak_jax.stages.context import Context
from ctrak_jax.store import read_scores, write_scores


def answering(ctx: Context, method: str) -> list[Variant]:
    """The variants that answer a method's main questions: those that rank all candidates."""
    config = ctx.config
    if method not in CONCEPT_METHODS or config.trajectory.condition != "unnamed":
        return []
    count = len(ctx.dataset.train_index)
    return [variant for variant in unnamed(config) if variant.ranks_all(count)]


def answer(ctx: Context, method: str, damping: Damping) -> Damping:
    """Let the variants' rankings and scores stand for the main ones; the damping of every
    attribute, and the curve."""
    parts = answering(ctx, method)
    tops, kept = dict(read_tops(ctx.folder.top(method))), ctx.config.score.keep_all
    scores = read_scores(ctx.folder.scores(method)) if kept else None
    found: list[Damping] = []
    for part in parts:
        folder = ctx.folder.part(part.folder)
        found.append(read_dampings(folder.dampings)[method])
        tops |= read_tops(folder.top(method))
        if scores is not None:
            scores[ctx.question_rows(part)] = read_scores(folder.scores(method))
    write_tops(ctx.folder.top(method), tops)
    if scores is not None:
        write_scores(ctx.folder.scores(method), scores)
    names = [part.without for part in parts]
    chosen = {name: d.of(name) for name, d in zip(names, found, strict=True) if name}
    whole = len(parts) == len(ctx.config.data.condition_on)
    return replace(
        damping,
        by_attribute=dict(damping.by_attribute) | chosen,
        curve=mean_curve(p for d in found for p in d.curve) if whole else damping.curve,
    )
