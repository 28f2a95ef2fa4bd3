"""Truth of the maps: does a score come from where the attribute asked about is?

    python -m benchmarks.localisation RUN [RUN ...] [--questions 8] [--images 10] [--method ...]
        [--scenario ...] [--attribute ...] [--named] [--maps ...] [--json FILE] [--picture FILE]

RUN is a finished run on drawn shapes or avatars, one training seed each. The region of an attribute
in a drawn picture is known (:mod:`benchmarks.regions`). Two measures of a map (method.md, section
9), whose negative part is left out:

* enrichment: the share of the map inside the region over the region's share of the area; 1 for a
  map that knows nothing, at most the area over the region's;
* pointing game (Zhang et al. 2016): is the largest value inside?

Of a question these are means over training images that carry the value asked about: an image that
does not has no region of it. They are the first so many by the method's scores and, the same for
all methods, so many at random. The candidates' conditions do not name the attribute; with
``--named`` they do. A question's own image is generated and has no known region, so maps of query
images are taken of pictures drawn anew under the question's condition, each asked about as an image
of one's own. Intervals are bootstrapped over the images asked about, and over runs if several.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from benchmarks.map_measures import Measured, centred, enrichment, points_inside, table
from benchmarks.regions import Drawings, drawings
from ctrak_jax import config, pipeline
from ctrak_jax.attribution import query_features
from ctrak_jax.attribution.explanation import influence_map, query_parts, train_parts
from ctrak_jax.errors import StoreError
from ctrak_jax.methods import GradientSpec
from ctrak_jax.report.explanation.overlay import enlarged, overlaid
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.features import TrainingFeatures, in_memory, solve
from ctrak_jax.run.questions import Question
from ctrak_jax.run.variants import MAIN, Variant, folder_without, table_of
from ctrak_jax.stages import unnamed
from ctrak_jax.stages.ask.explain import features_of
from ctrak_jax.stages.ask.question import Asking
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.score import load_features, load_query_features
from ctrak_jax.store import read_scores
from ctrak_jax.typing import Array

METHODS = ("concept-trak", "trak", "d-trak", "das")
TOLERANCE = 1e-3
"""How far sums of maps may be from scores, as a share of the largest score."""
GAP = 4
"""Pixels between the tiles of a picture."""
SCENARIOS = ("ood", "id")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How much is measured: images asked about per scenario, training images per question, only
    some attributes, and whether conditions name the attribute."""

    questions: int = 8
    images: int = 10
    scenarios: Sequence[str] = SCENARIOS
    attributes: Sequence[str] = ()
    named: bool = False


@dataclass(frozen=True)
class Localising:
    """One run, its drawings, and what is measured of it."""

    ctx: Context
    run: int
    drawn: Drawings
    wanted: Wanted

    @property
    def attributes(self) -> list[str]:
        """What is asked about."""
        wanted = self.wanted.attributes
        return [name for name in self.drawn.attributes if not wanted or name in wanted]

    def asked(self) -> list[Question]:
        """All questions about some images of either scenario, drawn at random."""
        attributes, found = self.attributes, []
        for scenario in self.wanted.scenarios:
            part = [
                q
                for q in self.ctx.questions()
                if (q.scope, q.split, q.scenario) == ("local", "report", scenario)
                and q.attribute in attributes
            ]
            names = np.array(list(dict.fromkeys(q.query for q in part)))
            kept = set(np.random.default_rng(0).permutation(names)[: self.wanted.questions])
            found += [q for q in part if q.query in kept]
        return found

    def variant(self, attribute: str) -> Variant:
        """Whose features answer questions about an attribute."""
        if self.wanted.named:
            return MAIN
        name = f"without {attribute}"
        return Variant(name, folder_without(attribute), without=attribute)

    def random_carriers(self, question: Question) -> np.ndarray:
        """Rows of candidates, the same for every method."""
        carriers = np.flatnonzero(self.ctx.dataset.carries(question.attribute, question.value))
        row = self.ctx.questions().index(question)
        return np.random.default_rng((1, row)).permutation(carriers)[: self.wanted.images]

    def first_carriers(self, question: Question, scores: np.ndarray) -> np.ndarray:
        """Rows of the candidates with the highest scores."""
        carries = self.ctx.dataset.carries(question.attribute, question.value)
        order = np.argsort(-scores, kind="stable")
        return order[carries[order]][: self.wanted.images]

    def region(self, row: int, attribute: str) -> np.ndarray:
        """Of a candidate."""
        return self.drawn.region(int(self.ctx.dataset.train_index[row]), attribute)

    def measured(
        self, question: Question, method: str, of: str, images: str, found: Any, inside: Any
    ) -> Measured:
        """The measures of one map."""
        return Measured(
            of=of,
            images=images,
            run=self.run,
            query=question.query,
            scenario=question.scenario,
            attribute=question.attribute,
            method=method,
            enrichment=enrichment(found, inside),
            pointing=float(points_inside(found, inside)),
        )


def references(job: Localising, question: Question) -> Iterator[Measured]:
    """Maps that know nothing of the method, on the random carriers; ``region`` is the best there
    is."""
    for row in job.random_carriers(question):
        inside = job.region(row, question.attribute)
        rng = np.random.default_rng((2, int(row)))
        for name, found in (
            ("region", inside.astype(float)),
            ("centre", centred(inside.shape)),
            ("random", rng.normal(size=inside.shape)),
        ):
            yield job.measured(question, name, "training", "random", found, inside)


@dataclass(frozen=True)
class Solving:
    """The features that answer a method's questions about an attribute, at its damping."""

    job: Localising
    method: str
    variant: Variant
    spec: GradientSpec
    features: TrainingFeatures
    damping: float

    def vectors(self, phi: np.ndarray) -> np.ndarray:
        """Solved features [row, proj]."""
        return solve(self.features, phi, [self.damping]).vectors()[0].astype(np.float32)

    def weighted(self, found: np.ndarray, rows: Any) -> np.ndarray:
        """Values of candidates [row, ...], times the weights of the method if it has any."""
        if self.features.weights is None:
            return found
        factor = self.features.weights[rows]
        return found * factor.reshape(-1, *(1,) * (found.ndim - 1))


def solving(job: Localising, method: str, attribute: str) -> Solving:
    """Read them."""
    ctx, variant = job.ctx, job.variant(attribute)
    spec = table_of(ctx.config, variant)[method].train
    assert spec is not None
    features = in_memory(load_features(ctx, variant, method))
    found = read_dampings(ctx.folder.part(variant.folder).dampings)[method]
    return Solving(job, method, variant, spec, features, found.of(attribute))


class Explained(NamedTuple):
    """Maps [row, height, width] of some candidates for one question."""

    question: Question
    images: str
    rows: np.ndarray
    maps: np.ndarray


def explained(own: Solving, programs: "Programs", part: Sequence[Question]) -> Iterator[Explained]:
    """The first and the random carriers of questions about one attribute.

    Raises:
        StoreError: the maps do not sum to the run's scores.
    """
    job, ctx = own.job, own.job.ctx
    samples, every = ctx.samples(own.variant), ctx.questions(own.variant)
    guided = own.spec.path == "inversion" and own.spec.condition == "own"
    rows = [every.index(q) for q in part]
    z = own.vectors(load_query_features(ctx, own.variant, own.method)[rows])
    scores = read_scores(ctx.folder.part(own.variant.folder).scores(own.method))[rows]
    for question, vector, score in zip(part, z, scores, strict=True):
        kinds = {
            "first": job.first_carriers(question, score),
            "random": job.random_carriers(question),
        }
        for images, chosen in kinds.items():
            batch = samples.batch(chosen, guided=guided)
            found = own.weighted(programs.training(own.spec, batch, vector), chosen)
            apart = np.abs(found.sum((1, 2)) - score[chosen]).max() / np.abs(score).max()
            if apart > TOLERANCE:
                raise StoreError(
                    f"{own.method}, {question.key}: maps sum to other scores than the run's "
                    f"(by {apart:.1e} of the largest); run it again."
                )
            yield Explained(question, images, chosen, found)


def training_maps(
    job: Localising, programs: "Programs", method: str, asked: Sequence[Question]
) -> Iterator[Measured]:
    """Of a method, for the first and the random carriers of every question."""
    for attribute in job.attributes:
        own = solving(job, method, attribute)
        part = [q for q in asked if q.attribute == attribute]
        for question, images, rows, maps in explained(own, programs, part):
            for row, found in zip(rows, maps, strict=True):
                inside = job.region(row, attribute)
                yield job.measured(question, method, "training", images, found, inside)


def query_maps(
    job: Localising, programs: "Programs", method: str, asked: Sequence[Question]
) -> Iterator[Measured]:
    """Of a method, of pictures drawn under the questions' conditions, for the first carriers."""
    ctx = job.ctx
    for attribute in job.attributes:
        own = solving(job, method, attribute)
        query = table_of(ctx.config)[method].query
        assert query is not None
        whole = features_of(own.features, np.arange(own.features.rows.n))
        for number, question in enumerate(q for q in asked if q.attribute == attribute):
            picture, inside = job.drawn.new(question.condition, number, attribute)
            asking = drawn_question(ctx, question, picture, number)
            z = own.vectors(programs.features(query, asking))[0]
            score = own.weighted(whole @ z, slice(None))
            chosen = job.first_carriers(question, score)
            for one in programs.query(query, asking, own.vectors(whole[chosen])):
                yield job.measured(question, method, "query", "first", one, inside)


MAPS = {"training": training_maps, "query": query_maps}
"""By the kind of image that is mapped."""


def drawn_question(ctx: Context, question: Question, picture: np.ndarray, number: int) -> Asking:
    """The question about another picture."""
    minus = ctx.question_inputs.minus_conditions(question.condition, question.attribute)
    cond = ctx.inputs.condition(question.condition, question.prompt)
    return Asking(picture, cond, {question.attribute: question.value}, [minus], number=number)


class Programs:
    """What makes maps of a run, compiled once for each gradient."""

    def __init__(self, ctx: Context) -> None:
        placed, null = ctx.placed(ctx.load()), ctx.inputs.null
        self.ctx, self.params = ctx, placed.params
        recipe, asking = ctx.recipe, ctx.query_recipe("local")

        def training(params: Any, batch: Any, z: Any, spec: GradientSpec) -> Array:
            def one(item: Any) -> Array:
                alone = jax.tree.map(lambda leaf: leaf[None], item)
                parts = train_parts(recipe, placed.network, params, spec, alone, z, null=null)
                return influence_map(parts)[0]

            return jax.vmap(one)(batch)  # faster than one after the other

        def query(params: Any, item: Any, z: Any, spec: GradientSpec) -> Array:
            parts = query_parts(asking, placed.network, params, spec, item, z, null=null)
            return influence_map(parts)

        def features(params: Any, batch: Any, spec: GradientSpec) -> Array:
            return query_features(asking, placed.network, params, [spec], batch, null)[0, :, 0]

        compiled = partial(jax.jit, static_argnames="spec")
        self._training, self._query = compiled(training), compiled(query)
        self._features = compiled(features)

    def training(self, spec: GradientSpec, batch: Any, z: np.ndarray) -> np.ndarray:
        """Maps of training samples [sample, height, width]."""
        return np.asarray(self._training(self.params, batch, jnp.asarray(z), spec=spec))

    def features(self, spec: GradientSpec, asking: Asking) -> np.ndarray:
        """Of the one concept of a question [1, proj]."""
        return np.asarray(self._features(self.params, asking.batch(self.ctx), spec=spec))

    def query(self, spec: GradientSpec, asking: Asking, z: np.ndarray) -> np.ndarray:
        """Maps of the question's image, by training sample [sample, height, width]."""
        item = jax.tree.map(lambda leaf: leaf[0], asking.batch(self.ctx))
        item = item._replace(minus=jax.tree.map(lambda leaf: leaf[0], item.minus))
        return np.asarray(self._query(self.params, item, jnp.asarray(z), spec=spec))


def picture(
    job: Localising, programs: "Programs", method: str, asked: Sequence[Question]
) -> Image.Image:
    """The first carriers of some questions, and below them their maps with the regions outlined."""
    lines = []
    for question in asked:
        own = solving(job, method, question.attribute)
        _, _, rows, maps = next(explained(own, programs, [question]))
        line = [job.ctx.dataset.raw.images[job.ctx.dataset.train_index[row]] for row in rows]
        below = zip(rows, line, maps, strict=True)
        lines.append([enlarged(image) for image in line])
        lines.append(
            [
                outlined(overlaid(image, found), job.region(row, question.attribute))
                for row, image, found in below
            ]
        )
    side = lines[0][0].width + GAP
    sheet = Image.new("RGB", (side * len(lines[0]), side * len(lines)), "white")
    for y, line in enumerate(lines):
        for x, tile in enumerate(line):
            sheet.paste(tile, (x * side, y * side))
    return sheet


def outlined(tile: Image.Image, inside: np.ndarray) -> Image.Image:
    """With a black line along the inner edge of a region."""
    scale = tile.height // len(inside)
    large = np.kron(inside, np.ones((scale, scale), bool))
    pixels = np.array(tile)
    pixels[large & ~binary_erosion(large)] = 0
    return Image.fromarray(pixels)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--questions", type=int, default=8, help="images asked about per scenario")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--method", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--scenario", nargs="+", default=SCENARIOS, choices=SCENARIOS)
    parser.add_argument("--attribute", nargs="+", default=(), help="only these")
    parser.add_argument("--named", action="store_true", help="conditions name the attribute")
    parser.add_argument("--maps", nargs="+", default=list(MAPS)[:1], choices=list(MAPS))
    parser.add_argument("--json", type=Path, help="where the measures of every map go")
    parser.add_argument("--picture", type=Path, help="one question per attribute, the first run's")
    given = parser.parse_args()
    wanted = Wanted(
        questions=given.questions,
        images=given.images,
        scenarios=given.scenario,
        attributes=given.attribute,
        named=given.named,
    )
    rows: list[Measured] = []
    jobs = [localising(path, number, wanted) for number, path in enumerate(given.run)]
    for job in jobs:
        asked, programs = job.asked(), Programs(job.ctx)
        if given.picture and job.run == 0:
            heads = {q.attribute: q for q in reversed(asked)}
            chosen = [heads[name] for name in job.attributes]
            picture(job, programs, given.method[0], chosen).save(given.picture, optimize=True)
        for question in asked:
            rows += references(job, question)
        for method in given.method:
            if given.named and unnamed.answering(job.ctx, method):
                continue  # it has no features under the attribute's name
            for kind in given.maps:
                rows += MAPS[kind](job, programs, method, asked)
            if given.json:
                given.json.write_text(json.dumps([asdict(row) for row in rows]))
    print(*table(rows, jobs[0].attributes), sep="\n")


def localising(path: Path, number: int, wanted: Wanted) -> Localising:
    """Open a run."""
    settings = config.load(path / "config.yaml")
    ctx = pipeline.prepare(settings, path)[0]
    return Localising(ctx, number, drawings(ctx.dataset, settings.data.seed), wanted)


if __name__ == "__main__":
    main()
