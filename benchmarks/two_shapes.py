"""Does a question about a part of a picture keep to that part?

    python -m benchmarks.two_shapes --out DIR [--config FILE] [--set SECTION.FIELD=VALUE ...]
        [--images N] [--validate] [--json FILE] [--picture FILE]

Pictures of two shapes in two colours (``data.objects: 2``): the condition names both colours at
once, as ``red+blue``, and does not say where each of them is. A picture drawn anew is asked about
its colours three times: as a whole, and with a mask on either shape. The region of a shape is the
pixels that change when it is left out. The ten training images ranked first should then show the
colour of the masked shape, and the other shape's no more often than chance: of the images that show
one of six colours, a fifth show a certain other one too.

The candidates' conditions do not name the colours. The damping is chosen on other drawn pictures by
how many of the first ten show the masked shape's colour. Intervals are bootstrapped over the
pictures. DIR is a run; it is trained and featurized where that is left to do.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from benchmarks.localisation import GAP, outlined
from benchmarks.regions import BEYOND, CHANGED
from ctrak_jax import config, metrics, pipeline
from ctrak_jax.attribution import QueryBatch, mixtures, query_features
from ctrak_jax.data.synthetic import AND, draw_figures, pair_of
from ctrak_jax.methods import METHODS
from ctrak_jax.report.explanation.overlay import enlarged
from ctrak_jax.run.dampings import choose_damping
from ctrak_jax.run.features import in_memory, ranked, solve
from ctrak_jax.run.variants import Variant, unnamed
from ctrak_jax.stages import featurize
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.score import load_features

CONFIG = Path(__file__).with_suffix(".yaml")
METHOD = "concept-trak"
DEPTH = 10
VALIDATION = range(1000, 1064)
"""Numbers of the pictures that choose settings."""
TOGETHER = 8
"""Pictures featurized side by side."""
WHOLE = "whole"


class Drawn(NamedTuple):
    """A picture drawn anew, uint8 [height, width, 3], what it shows, and its shapes' regions by
    their colours, bool [height, width]."""

    image: np.ndarray
    values: dict[str, str]
    regions: dict[str, np.ndarray]


def drawn(ctx: Context, number: int) -> Drawn:
    """The ``number``-th picture that the data set does not hold."""
    seed, size = ctx.config.data.seed, ctx.config.data.image_size
    every = ctx.dataset.conditions.combinations()
    values = every[int(np.random.default_rng((seed, BEYOND, number)).integers(len(every)))]
    pair = pair_of(seed, BEYOND + number, values["shape"], values["color"])
    image = draw_figures(pair, size)
    regions = {
        figure.color: np.abs(image.astype(int) - draw_figures([other], size)).max(-1) > CHANGED
        for figure, other in (pair, pair[::-1])
    }
    return Drawn(image, values, regions)


def asked(ctx: Context, pictures: Sequence[Drawn], first: int) -> QueryBatch:
    """The question about the colours of each picture: of the whole, and of either region."""
    minus = [ctx.question_inputs.minus_conditions(p.values, "color") for p in pictures]
    whole = np.ones(pictures[0].image.shape[:2], bool)
    return QueryBatch(
        ctx.inputs.encode(np.stack([p.image for p in pictures])),
        np.stack([ctx.inputs.condition(p.values, "") for p in pictures]),
        mixtures([[one] * 3 for one in minus]),
        np.arange(first, first + len(pictures), dtype=np.int32),
        np.array([[whole, *p.regions.values()] for p in pictures], np.float32),
    )


def features(ctx: Context, pictures: Sequence[Drawn]) -> np.ndarray:
    """Features of the questions [picture, region, proj]: the whole, then either region."""
    placed, spec = ctx.placed(ctx.load()), METHODS[METHOD].query
    assert spec is not None
    step = partial(query_features, ctx.query_recipe("local"), placed.network)
    compute = jax.jit(lambda params, batch: step(params, [spec], batch, ctx.inputs.null)[:, :, 0])
    found = []
    for first in range(0, len(pictures), TOGETHER):
        batch = asked(ctx, pictures[first : first + TOGETHER], first)
        found.append(np.asarray(compute(placed.params, batch)))
    return np.concatenate(found)


def rankings(ctx: Context, variant: Variant, phi: np.ndarray) -> np.ndarray:
    """The first training images at every damping, by dataset index [damping, picture, region,
    rank]."""
    found = in_memory(load_features(ctx, variant, METHOD))
    solution = solve(found, phi.reshape(-1, phi.shape[-1]), ctx.config.score.damping)
    rows = np.asarray(ranked(found, solution, DEPTH, keep=False).ranking.samples)
    return ctx.dataset.train_index[rows].reshape(len(rows), *phi.shape[:2], DEPTH)


def shows(ctx: Context, color: str) -> np.ndarray:
    """Which images of the data set show a colour, by dataset index."""
    return np.array([color in pair.split(AND) for pair in ctx.dataset.raw.attributes["color"]])


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the first training images for a question show.

    Attributes:
        image: number of the picture asked about.
        region: ``whole``, or the colour of the masked shape.
        color: whose share ``own`` is: the masked shape's, or of the whole either in turn.
        own: share that shows this colour.
        other: share that shows the other one.
        both: share that shows both.
    """

    image: int
    region: str
    color: str
    own: float
    other: float
    both: float


def measured(ctx: Context, pictures: Sequence[Drawn], tops: np.ndarray) -> list[Kept]:
    """Of every question; ``tops`` [picture, region, rank]."""
    has = {color: shows(ctx, color) for color in ctx.config.data.colors}
    rows = []
    for number, (one, of_regions) in enumerate(zip(pictures, tops, strict=True)):
        for region, index in zip((WHOLE, *one.regions), of_regions, strict=True):
            for color in one.regions if region == WHOLE else [region]:
                (other,) = set(one.regions) - {color}
                own, rest = has[color][index], has[other][index]
                rows.append(
                    Kept(
                        image=number,
                        region=region,
                        color=color,
                        own=float(own.mean()),
                        other=float(rest.mean()),
                        both=float((own & rest).mean()),
                    )
                )
    return rows


def means(rows: Sequence[Kept], *, whole: bool) -> list[metrics.Interval]:
    """Of the shares over the pictures, each counting alike."""
    found: dict[int, list[list[float]]] = {}
    for row in rows:
        if (row.region == WHOLE) == whole:
            found.setdefault(row.image, []).append([row.own, row.other, row.both])
    values = np.array([np.mean(of, axis=0) for of in found.values()])  # [picture, share]
    return [metrics.bootstrap_mean([column]) for column in values.T]


def table(rows: Sequence[Kept], chance: Mapping[str, float]) -> Iterator[str]:
    """Markdown: means over the pictures with 95% intervals."""
    yield "| asked about | the masked shape's colour | the other's | both |"
    yield "|---|---|---|---|"
    for whole in (False, True):
        texts = [f"{c.mean:.2f} [{c.low:.2f}, {c.high:.2f}]" for c in means(rows, whole=whole)]
        yield f"| {'the whole' if whole else 'one shape'} | {' | '.join(texts)} |"
    yield f"| *chance* | {' | '.join(f'{value:.2f}' for value in chance.values())} |"


def chance(ctx: Context) -> dict[str, float]:
    """What a ranking at random shows, as a mean over colours."""
    has = {color: shows(ctx, color)[ctx.dataset.train_index] for color in ctx.config.data.colors}
    pairs = [np.mean(a & b) for one, a in has.items() for two, b in has.items() if one != two]
    own = float(np.mean(list(has.values())))
    return {"own": own, "other": own, "both": float(np.mean(pairs))}


def picture(ctx: Context, one: Drawn, tops: np.ndarray) -> Image.Image:
    """A picture with what is asked about outlined, and the first training images [region, rank]."""
    lines = []
    whole = np.ones(one.image.shape[:2], bool)
    for inside, index in zip((whole, *one.regions.values()), tops, strict=True):
        line = [enlarged(ctx.dataset.raw.images[i]) for i in index]
        lines.append([outlined(enlarged(one.image), inside), *line])
    side = lines[0][0].width + GAP
    sheet = Image.new("RGB", (side * len(lines[0]) + side // 2, side * len(lines)), "white")
    for y, line in enumerate(lines):
        for x, tile in enumerate(line):
            sheet.paste(tile, (x * side + (side // 2 if x else 0), y * side))
    return sheet


def main() -> None:
    """Train and featurize where that is left to do, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--images", type=int, default=64, help="pictures asked about")
    parser.add_argument("--validate", action="store_true", help="show the pictures that choose")
    parser.add_argument("--json", type=Path, help="where what was measured of every question goes")
    parser.add_argument("--picture", type=Path, help="of the first picture asked about")
    given = parser.parse_args()
    settings = config.load(given.config, dict(text.split("=", 1) for text in given.set))
    pipeline.run(settings, given.out, ("train",))
    (ctx,) = pipeline.prepare(settings, given.out)
    (variant,) = (v for v in unnamed(settings) if v.without == "color")
    featurize.run(ctx, variant)

    pictures = [drawn(ctx, number) for number in (*VALIDATION, *range(given.images))]
    tops = rankings(ctx, variant, features(ctx, pictures))
    choosing = slice(len(VALIDATION))
    found = [measured(ctx, pictures[choosing], at[choosing]) for at in tops]
    own = np.array([[row.own for row in rows if row.region != WHOLE] for rows in found])
    chosen = choose_damping(own)
    if not given.validate:
        pictures, tops = pictures[len(VALIDATION) :], tops[:, len(VALIDATION) :]
        found = [measured(ctx, pictures, at) for at in tops]
    dampings = settings.score.damping
    if given.json:
        rows = {r: [asdict(row) for row in at] for r, at in zip(dampings, found, strict=True)}
        given.json.write_text(json.dumps({"chosen": dampings[chosen], "rows": rows}))
    if given.picture:
        picture(ctx, pictures[0], tops[chosen, 0]).save(given.picture, optimize=True)
    print(f"damping r = {dampings[chosen]:g}")
    print(*table(found[chosen], chance(ctx)), sep="\n")


if __name__ == "__main__":
    main()
