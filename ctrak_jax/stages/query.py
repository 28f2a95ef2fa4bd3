"""Queries: generate images, keep those that show their concepts, and featurize the questions."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ctrak_jax import devices
from ctrak_jax.data.check import shape_reader
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import require_heard
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.run.questions import (
    Question,
    Scope,
    Split,
    combination_names,
    fingerprint,
    read_questions,
    write_questions,
)
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.featurize import folder
from ctrak_jax.stages.gradients import Selected, feature_key, guidance_of, selected
from ctrak_jax.stages.query_rows import QueryBatch, query_rows, stacked
from ctrak_jax.stages.questions import in_common, minus_of
from ctrak_jax.stages.variant import MAIN, Variant
from ctrak_jax.store import FeatureStore
from ctrak_jax.trajectory import sample

ZOOM = 4
"""How much larger than the images the contact sheet of samples is drawn."""
SHEET = 12
"""Images of a combination on the contact sheet."""
SEEDS_APART = 1_000_000
"""Distance between the sampling seeds of two combinations."""


def combinations(ctx: Context) -> list[dict[str, str]]:
    """The combinations asked about: all, or ``query.combinations`` of each scenario by seed."""
    limit, rng = ctx.config.query.combinations, np.random.default_rng(ctx.config.query.seed)
    chosen = []
    for group in ctx.training_set.combinations:
        keep = sorted(rng.permutation(len(group))[:limit])
        chosen += [group[i] for i in keep]
    return chosen


def generate(ctx: Context) -> None:
    """Generate the local queries and pictures of the global ones; list all questions."""
    config = ctx.config
    if not config.data.condition_on:
        raise UsageError(
            "data.condition_on is empty, so there is no combination of values to ask about; name "
            "attributes there, or ask by `ctrak attribute --prompt`."
        )
    out = ctx.root / "queries"
    table = out / "queries.csv"
    inputs = {
        **model.key(ctx),
        "dataset": ctx.dataset.fingerprint,
        "query": config.query.model_dump(mode="json"),
        "trajectory": [config.trajectory.steps, config.trajectory.record_every],
        "schedule": config.schedule.model_dump(mode="json"),
        **ctx.inputs.key,
    }
    if ctx.fresh("query-images", inputs, table):
        return
    if table.exists():
        raise StoreError(
            f"{table} was made from another model or other query settings; use another --out, or "
            f"delete {out} to ask anew."
        )
    chosen = combinations(ctx)
    names = combination_names(chosen)
    if config.model.kind == "text-to-image":
        require_heard(ctx.model_folder, _told(ctx, chosen))
    with stage(ctx.root, "query images", ctx.mesh.size) as record:
        shutil.rmtree(out, ignore_errors=True)
        (out / "images").mkdir(parents=True)
        denoiser = model.load(ctx)
        draw = sampler(ctx, denoiser)
        asked: list[Question] = []
        tried = kept = 0
        sheet = []
        for number, (values, name) in enumerate(zip(chosen, names, strict=True)):
            held_out = ctx.dataset.is_held_out(values)
            plan: list[tuple[Split, int]] = [("report", config.query.per_combination)]
            if not held_out:
                plan.append(("validation", config.query.validation))
            cond = ctx.inputs.condition(values, ctx.inputs.prompt(values))
            candidates = _candidates(ctx, denoiser, draw, cond, number)
            accepts = accepted_by(ctx, values)
            for split, wanted in plan if "local" in config.query.scopes else []:
                for n in range(wanted):
                    for image in candidates:
                        tried += 1
                        if accepts(image):
                            break
                    else:
                        logger.warning(
                            "%s: only %d of %d %s queries were accepted; raise query.attempts or "
                            "train longer",
                            name,
                            n,
                            wanted,
                            split,
                        )
                        break
                    kept += 1
                    prefix = "v" if split == "validation" else ""
                    query = f"{name}-{prefix}{n:02d}"
                    Image.fromarray(image).save(out / "images" / f"{query}.png")
                    asked += _questions(ctx, query, values, "local", split, held_out)
            samples = draw(
                denoiser.params,
                cond,
                np.arange(SHEET) + SEEDS_APART * (number + 1) + SEEDS_APART // 2,
            )
            sheet.append(np.concatenate(list(samples), axis=1))
            if "global" in config.query.scopes:
                query = f"{name}-global"
                Image.fromarray(sheet[-1]).save(out / "images" / f"{query}.png")
                asked += _questions(ctx, query, values, "global", "report", held_out)
        picture = Image.fromarray(np.concatenate(sheet))
        picture.resize(
            (picture.width * ZOOM, picture.height * ZOOM), Image.Resampling.NEAREST
        ).save(ctx.root / "samples.png")
        record.samples, record.extra = tried, {"accepted": kept, "generated": tried}
        if not asked:
            raise StoreError(
                "no image was accepted, so there is nothing to ask; train longer, raise "
                "query.attempts, or use query.check: none."
            )
        ctx.finish("query-images", inputs)  # before the table, which completes it
        write_questions(table, asked)


def _told(ctx: Context, chosen: Sequence[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """What a text-to-image network is told in every question, with the concept and without."""
    for values in chosen:
        prompt = ctx.inputs.prompt(values)
        for attribute in ctx.conditions.attributes:
            for other in minus_of(ctx, values, attribute):
                yield prompt, other.prompt


def _questions(
    ctx: Context, query: str, values: dict[str, str], scope: Scope, split: Split, held_out: bool
) -> list[Question]:
    prompt, asked = ctx.inputs.prompt(values), []
    for attribute in ctx.conditions.attributes:
        told = minus_of(ctx, values, attribute)
        question = Question(
            query=query,
            condition=values,
            attribute=attribute,
            minus=in_common(told, attribute),
            scope=scope,
            scenario="ood" if held_out else "id",
            split=split,
            image=f"images/{query}.png",
            prompt=prompt,
            minus_prompt=" | ".join(one.prompt for one in told if one.prompt),
        )
        asked.append(question)
    return asked


def accepted_by(ctx: Context, values: dict[str, str]) -> Callable[[np.ndarray], bool]:
    """The run's rule (config ``query.check``): does an image uint8 [H, W, 3] show these values?"""
    if ctx.config.query.check == "none":
        return lambda image: True
    data = ctx.config.data
    reader = shape_reader(data.shapes, data.colors, data.image_size)
    return lambda image: reader.accepts(image, values)


def sampler(ctx: Context, denoiser: Denoiser):
    """draw(params, cond [c], numbers [n]) -> uint8 images [n, H, W, C]; each number is a seed."""
    shape, null, q = ctx.shapes.sample, ctx.inputs.null, ctx.config.query

    def one(params, cond, number):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(q.seed), number), shape)
        guidance = guidance_of(q.sampling_guidance, jnp.asarray(null))
        drawn = sample(
            denoiser.exact_fn, params, ctx.schedule, ctx.grid, noise, cond, guidance=guidance
        )
        return drawn.x0

    compiled = jax.jit(jax.vmap(one, (None, None, 0)))
    return lambda params, cond, numbers: ctx.inputs.decode(compiled(params, cond, numbers))


def _candidates(ctx: Context, denoiser: Denoiser, draw, cond, number: int) -> Iterator[np.ndarray]:
    """Images of one combination, one after the other, up to ``query.attempts`` times as wanted."""
    q, batch = ctx.config.query, 16
    limit = q.attempts * (q.per_combination + q.validation)
    for first in range(0, limit, batch):
        numbers = np.arange(first, first + batch) + SEEDS_APART * (number + 1)
        yield from draw(denoiser.params, cond, numbers)


def featurize(ctx: Context, variant: Variant = MAIN) -> None:
    """Complete ``queries/<method>/`` for every method that works by gradients."""
    asked = read_questions(ctx.root / "queries" / "queries.csv")
    denoiser = model.load(ctx)
    chosen = selected(ctx, denoiser, variant)
    made_by = model.key(ctx)
    out = folder(ctx, variant) / "queries"
    concepts = len(ctx.conditions.attributes)
    stores: dict[str, FeatureStore] = {}
    specs: dict[str, GradientSpec] = {}
    for name in ctx.config.methods:
        spec = METHODS[name].query
        if spec is None:
            continue
        specs[name] = spec
        stores[name] = FeatureStore.create(
            out / name,
            feature_key(ctx, chosen.selection, variant, spec, made_by) | query_key(ctx),
            index=np.arange(len(asked)),
            widths={"features": ctx.config.projection.k},
            chunk=concepts,  # an image and its questions
        )
        write_questions(out / name / "queries.csv", asked)
    lacking = {name: {c.start: c for c in store.missing} for name, store in stores.items()}
    lacking = {name: chunks for name, chunks in lacking.items() if chunks}
    if not lacking:
        return
    with stage(folder(ctx, variant), variant.title("query"), ctx.mesh.size) as record:
        todo = {start for chunks in lacking.values() for start in chunks}
        distinct = sorted({specs[name] for name in lacking})
        rows = [r for r in range(len(asked)) if r - r % concepts in todo]
        groups = by_image(asked, rows)
        record.samples = groups.size
        with meter(variant.title("query"), groups.size) as bar:
            for rows, features in _features(ctx, chosen, distinct, asked, groups):
                for name, chunks in lacking.items():
                    if rows[0] in chunks:
                        column = features[:, distinct.index(specs[name])]
                        stores[name].write(chunks[rows[0]], {"features": column})
                bar.advance(len(rows))
        for store in stores.values():
            store.seal()


def query_key(ctx: Context) -> dict[str, Any]:
    """What the features of the questions depend on beside the gradients' settings."""
    return {
        "query": ctx.config.query.model_dump(mode="json"),
        "images": fingerprint(ctx.root / "queries"),
    }


def _features(
    ctx: Context,
    chosen: Selected,
    specs: Sequence[GradientSpec],
    asked: list[Question],
    groups: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows [concept] and features [concept, spec, k] image by image, computed in batches of a fixed
    size, one scope after the other."""
    weights = devices.put(chosen.weights, ctx.mesh, chosen.specs)
    for scope in ctx.config.query.scopes:
        images = np.array([g for g in groups if asked[g[0]].scope == scope])
        if not len(images):
            continue
        size = min(ctx.config.gradient.batch, len(images))
        size += -size % ctx.mesh.size
        rows = partial(query_rows, ctx, chosen, specs, scope, ctx.inputs.null)
        fn = devices.over_samples(rows, ctx.mesh, chosen.specs)
        for first in range(0, len(images), size):
            real = images[first : first + size]
            batch = query_batch(ctx, asked, devices.padded(real, size))
            found = np.asarray(fn(weights, batch))
            yield from zip(real, found, strict=False)


def by_image(asked: list[Question], rows: Sequence[int]) -> np.ndarray:
    """The rows of the questions about each image, one a concept: int [image, concept]."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(asked[row].query, []).append(row)
    return np.array(list(groups.values()))


def query_batch(ctx: Context, asked: list[Question], groups: np.ndarray) -> QueryBatch:
    """The arrays of a batch of images; global questions have no image of their own.

    Args:
        groups: rows of ``asked`` [image, concept]; an image's first row fixes its random numbers.
    """
    inputs = ctx.inputs
    heads = [asked[row] for row in groups[:, 0]]
    images = [
        read_image(ctx.root / "queries" / q.image, ctx.dataset.image_shape)
        if q.scope == "local"
        else np.zeros(ctx.dataset.image_shape, np.uint8)
        for q in heads
    ]
    return QueryBatch(
        inputs.encode(np.stack(images)),
        np.stack([inputs.condition(q.condition, q.prompt) for q in heads]),
        stacked(
            [
                [alternatives(ctx, asked[row].condition, asked[row].attribute) for row in group]
                for group in groups
            ]
        ),
        groups[:, 0].astype(np.int32),
    )


def alternatives(ctx: Context, values: Mapping[str, str], attribute: str) -> np.ndarray:
    """The conditions without a concept: [alternative, ...]."""
    return np.stack([ctx.inputs.condition(*told) for told in minus_of(ctx, values, attribute)])


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A query's picture: uint8 [H, W, 3].

    Raises:
        StoreError: missing, unreadable or of another size.
    """
    try:
        image = np.asarray(Image.open(path).convert("RGB"))
    except OSError as error:
        raise StoreError(f"{path}: not a readable image ({error}).") from None
    if image.shape != shape:
        raise StoreError(f"{path}: shape {image.shape}, the model wants {shape}.")
    return image
