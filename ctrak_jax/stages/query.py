"""Queries: generate images, keep those that show their concepts, and featurize the questions."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from ctrak_jax import devices
from ctrak_jax.attribution import QueryBatch, guidance_of, query_features
from ctrak_jax.data.check import shape_reader
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import require_distinct_prompts
from ctrak_jax.inputs.masks import OF, content, mask_files, read_mask
from ctrak_jax.inputs.questions import by_image, in_common
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.precision import described
from ctrak_jax.rewards import params_of, rated
from ctrak_jax.run import questions
from ctrak_jax.run.fill import Computed, FillJob, fill
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.questions import Question, Scope, Split, combination_names
from ctrak_jax.run.variants import MAIN, Variant
from ctrak_jax.stages.context import Context
from ctrak_jax.store import FeatureStore
from ctrak_jax.trajectory import sample
from ctrak_jax.typing import Cond

ZOOM = 4
"""How much larger than the images the contact sheet of samples is drawn."""
SHEET = 12
"""Images of a combination on the contact sheet."""
SEEDS_APART = 1_000_000
"""Distance between the sampling seeds of two combinations."""
DRAWN = 16
"""Images generated side by side."""


def combinations(ctx: Context) -> list[dict[str, str]]:
    """The combinations asked about: all, or ``query.combinations`` of each scenario by seed."""
    limit, rng = ctx.config.query.combinations, np.random.default_rng(ctx.config.query.seed)
    chosen = []
    for group in ctx.training_set.combinations:
        keep = sorted(rng.permutation(len(group))[:limit])
        chosen += [group[i] for i in keep]
    return chosen


def generate(ctx: Context, like: Context | None = None) -> None:
    """Generate the local queries and pictures of the global ones; list all questions.

    Args:
        ctx: whose model generates them.
        like: whose questions and pictures are taken instead, those of another training seed.

    Raises:
        UsageError: there is no combination of values to ask about, or a concept that the text
            encoder does not know.
        StoreError: questions of another model or other settings are there, or no image was
            accepted.
    """
    config, out = ctx.config, ctx.folder.queries
    if not config.data.condition_on:
        raise UsageError(
            "data.condition_on is empty, so there is no combination of values to ask about; name "
            "attributes there, or ask by `ctrak attribute --prompt`."
        )
    key = ctx.upstream() | settings_of(config, "query images")
    masks = mask_files(config.query.masks)
    if masks:
        key["masks"] = content(masks)
    if like is not None:
        key["pictures"] = questions.fingerprint(like.folder.queries)
    if ctx.folder.fresh("query-images", key, ctx.folder.questions):
        return
    if ctx.folder.questions.exists():
        raise StoreError(
            f"{ctx.folder.questions} was made from another model or other query settings; use "
            f"another --out, or delete {out} to ask anew."
        )
    if like is not None:
        shutil.rmtree(out, ignore_errors=True)
        for name in ("images", "masks"):
            if (like.folder.queries / name).exists():
                shutil.copytree(like.folder.queries / name, out / name)
        ctx.folder.finish("query-images", key)
        questions.write_questions(ctx.folder.questions, like.questions())
        return
    chosen = combinations(ctx)
    if config.model.kind == "text-to-image":
        require_distinct_prompts(ctx.model_source, _prompts(ctx, chosen))
    with stage(ctx.folder.root, "query images", ctx.mesh.size) as record:
        shutil.rmtree(out, ignore_errors=True)
        (out / "images").mkdir(parents=True)
        artist = _Artist(ctx)
        with meter("query images", len(chosen)) as bar:
            for number, name in enumerate(combination_names(chosen)):
                artist.combination(number, name, chosen[number])
                bar.advance(1)
        artist.ask_parts(masks)
        artist.write_sheet()
        record.samples = artist.tried
        record.extra = {"accepted": artist.kept, "generated": artist.tried}
        record.extra |= {"precision": described(config.run.precision)}
        if not artist.asked:
            raise StoreError(
                "no image was accepted, so there is nothing to ask; train longer, raise "
                "query.attempts, or use query.check: none."
            )
        ctx.folder.finish("query-images", key)  # before the table, which completes it
        questions.write_questions(ctx.folder.questions, artist.asked)


class _Artist:
    """Draws the images of one combination after the other."""

    def __init__(self, ctx: Context) -> None:
        self._ctx, self._denoiser = ctx, ctx.load()
        self._draw = sampler(ctx, self._denoiser)
        self._sheet: list[np.ndarray] = []
        self.asked: list[Question] = []
        self.tried = self.kept = 0

    def combination(self, number: int, name: str, values: dict[str, str]) -> None:
        """Images of a combination, and the questions about them."""
        ctx, q = self._ctx, self._ctx.config.query
        held_out = ctx.dataset.is_held_out(values)
        cond = ctx.inputs.condition(values, ctx.inputs.prompt(values))
        candidates, accepts = self._candidates(cond, number), accepted_by(ctx, values)
        if "local" in q.scopes:
            plan: list[tuple[Split, int]] = [("report", q.per_combination)]
            if not held_out:
                plan.append(("validation", q.validation))
            for split, wanted in plan:
                self._local(name, values, split, wanted, candidates, accepts)
        seeds = np.arange(SHEET) + SEEDS_APART * (number + 1) + SEEDS_APART // 2
        samples = self._draw(self._denoiser.params, cond, seeds)
        self._sheet.append(np.concatenate(list(samples), axis=1))
        if "global" in q.scopes:
            self._ask(f"{name}-global", self._sheet[-1], values, "global", "report")

    def ask_parts(self, files: Sequence[Path]) -> None:
        """Ask about parts of images, after all others."""
        folder, asked = self._ctx.folder.queries, list(self.asked)
        if files:
            (folder / "masks").mkdir()
        for file in files:
            whole = file.stem.rpartition(OF)[0]
            found = [q for q in asked if (q.query, q.about, q.split) == (whole, "local", "report")]
            if not found:
                known = dict.fromkeys(q.query for q in asked if q.scope == "local")
                raise UsageError(
                    f"query.masks: {file}: {whole!r} is no query image that is reported; the run "
                    f"has {', '.join(list(known)[:6])}, ..."
                )
            mask = read_mask(file, self._ctx.dataset.image_shape)
            place = f"masks/{file.stem}.png"
            Image.fromarray(np.round(255.0 * mask).astype(np.uint8)).save(folder / place)
            self.asked += [replace(q, query=file.stem, mask=place) for q in found]

    def write_sheet(self) -> None:
        """A row of samples per combination."""
        picture = Image.fromarray(np.concatenate(self._sheet))
        size = (picture.width * ZOOM, picture.height * ZOOM)
        enlarged = picture.resize(size, Image.Resampling.NEAREST)
        enlarged.save(self._ctx.folder.root / "samples.png")

    def _local(
        self,
        name: str,
        values: dict[str, str],
        split: Split,
        wanted: int,
        candidates: Iterator[np.ndarray],
        accepts: Callable[[np.ndarray], bool],
    ) -> None:
        prefix = "v" if split == "validation" else ""
        for n in range(wanted):
            image = self._accepted(candidates, accepts)
            if image is None:
                logger.warning(
                    "%s: only %d of %d %s queries were accepted; raise query.attempts or train "
                    "longer",
                    *(name, n, wanted, split),
                )
                return
            self.kept += 1
            self._ask(f"{name}-{prefix}{n:02d}", image, values, "local", split)

    def _accepted(
        self, candidates: Iterator[np.ndarray], accepts: Callable[[np.ndarray], bool]
    ) -> np.ndarray | None:
        for image in candidates:
            self.tried += 1
            if accepts(image):
                return image
        return None

    def _candidates(self, cond: Cond, number: int) -> Iterator[np.ndarray]:
        """Images of one combination, one after the other, up to ``query.attempts`` times as
        wanted."""
        q = self._ctx.config.query
        for first in range(0, q.attempts * (q.per_combination + q.validation), DRAWN):
            numbers = np.arange(first, first + DRAWN) + SEEDS_APART * (number + 1)
            yield from self._draw(self._denoiser.params, cond, numbers)

    def _ask(
        self, query: str, image: np.ndarray, values: dict[str, str], scope: Scope, split: Split
    ) -> None:
        """Keep a picture, and ask about each of its concepts."""
        ctx, file = self._ctx, f"images/{query}.png"
        Image.fromarray(image).save(ctx.folder.queries / file)
        for attribute in ctx.dataset.conditions.attributes:
            found = ctx.question_inputs.alternatives(values, attribute)
            question = Question(
                query=query,
                condition=values,
                attribute=attribute,
                minus=in_common(found, attribute),
                scope=scope,
                scenario="ood" if ctx.dataset.is_held_out(values) else "id",
                split=split,
                image=file,
                prompt=ctx.inputs.prompt(values),
                minus_prompt=" | ".join(one.prompt for one in found if one.prompt),
            )
            self.asked.append(question)


def _prompts(ctx: Context, chosen: Sequence[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """The prompts of every question, with the concept and without."""
    for values in chosen:
        prompt = ctx.inputs.prompt(values)
        for attribute in ctx.dataset.conditions.attributes:
            for other in ctx.question_inputs.alternatives(values, attribute):
                yield prompt, other.prompt


def accepted_by(ctx: Context, values: dict[str, str]) -> Callable[[np.ndarray], bool]:
    """The run's rule (config ``query.check``): does an image uint8 [H, W, 3] show these values?"""
    if ctx.config.query.check == "none":
        return lambda image: True
    data = ctx.config.data
    reader = shape_reader(data.shapes, data.colors, data.image_size)
    return lambda image: reader.accepts(image, values)


def sampler(ctx: Context, denoiser: Denoiser) -> Callable[[Any, Any, Any], np.ndarray]:
    """draw(params, cond [c], numbers [n]) -> uint8 images [n, H, W, C]; each number is a seed."""
    shape, null = ctx.architecture.sample, ctx.inputs.null
    schedule, grid = ctx.recipe.schedule, ctx.recipe.grid
    q = ctx.config.query

    def one(params, cond, number):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(q.seed), number), shape)
        guidance = guidance_of(q.sampling_guidance, null)
        exact = denoiser.exact_fn
        return sample(exact, params, schedule, grid, noise, cond, guidance=guidance).x0

    compiled = jax.jit(jax.vmap(one, (None, None, 0)))
    return lambda params, cond, numbers: ctx.inputs.decode(compiled(params, cond, numbers))


def featurize(ctx: Context, variant: Variant = MAIN) -> None:
    """Complete ``queries/<method>/`` for every method that works by gradients."""
    asked, folder = ctx.questions(), ctx.folder.part(variant.folder)
    concepts = len(ctx.dataset.conditions.attributes)
    specs = {name: spec for name in ctx.config.methods if (spec := METHODS[name].query)}
    precision = described(ctx.config.run.precision)
    stores: dict[str, FeatureStore] = {}
    for name, spec in specs.items():
        stores[name] = FeatureStore.create(
            folder.query_features(name),
            ctx.query_key(spec, variant),
            index=np.arange(len(asked)),
            widths={"features": ctx.config.projection.k},
            chunk=concepts,  # an image and its questions
            precision=precision,
        )
        questions.write_questions(folder.query_features(name) / "queries.csv", asked)
    missing = {name: store.missing for name, store in stores.items() if store.missing}
    if not missing:
        return
    todo = {row for chunks in missing.values() for chunk in chunks for row in chunk}
    groups = by_image(asked, sorted(todo))
    jobs: list[FillJob] = []
    sizes: dict[str, int] = {}
    for scope in ctx.config.query.scopes:
        images = [range(g[0], g[-1] + 1) for g in groups if asked[g[0]].scope == scope]
        size = min(ctx.config.gradient.batch, len(images))
        sizes[scope] = size + -size % ctx.mesh.size
        starts = range(0, len(images), sizes[scope] or 1)
        names = tuple(missing)
        jobs += [FillJob(tuple(images[i : i + sizes[scope]]), names, of=scope) for i in starts]
    title = variant.title("query")
    with stage(folder.root, title, ctx.mesh.size) as record:
        wanted = {name: specs[name] for name in missing}
        record.extra = {"precision": precision}
        fill(stores, jobs, _dispatcher(ctx, variant, wanted, asked, sizes), title, record)
        for store in stores.values():
            store.seal()


def _dispatcher(
    ctx: Context,
    variant: Variant,
    wanted: Mapping[str, GradientSpec],
    asked: Sequence[Question],
    sizes: Mapping[str, int],
) -> Callable[[FillJob], Callable[[], Computed]]:
    """Starts batches of images, each of one scope.

    Args:
        wanted: store -> its gradient.
        sizes: scope -> images of a batch.
    """
    network, params, placing = ctx.placed(ctx.load(), variant)
    weights, null = devices.put(params, ctx.mesh, placing), ctx.inputs.null
    specs = sorted(set(wanted.values()))
    reward = ctx.reward if any(spec.by_reward for spec in specs) else None
    judge = devices.put_replicated(params_of(reward), ctx.mesh)

    @cache
    def program(scope: Scope) -> jax.stages.Wrapped:
        step = partial(query_features, ctx.query_recipe(scope), network)

        def of_batch(given: tuple[Any, Any], batch: QueryBatch) -> Any:
            weights, judge = given
            return step(weights, specs, batch, null, rated(reward, judge))

        return devices.over_samples(of_batch, ctx.mesh, (placing, devices.WHOLE))

    def dispatch(job: FillJob) -> Callable[[], Computed]:
        images, scope = np.array([list(chunk) for chunk in job.chunks]), asked[job.first].scope
        batch = ctx.question_inputs.batch(asked, devices.padded(images, sizes[scope]), reward)
        found = program(scope)((weights, judge), batch)

        def fetch() -> Computed:
            rows = np.asarray(found)[: len(images)].reshape(job.rows, len(specs), -1)
            return {name: {"features": rows[:, specs.index(s)]} for name, s in wanted.items()}

        return fetch

    return dispatch
