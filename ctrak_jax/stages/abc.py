r"""The AbC benchmark: features of LAION and of the exemplars, questions, scores, Recall and mAP.

Every LAION row is featurized once, whatever the number of tasks; the exemplars of a customised
model once, whatever the number of its tasks. With S(a, b) = phi_a^T (G + lambda I)^-1 phi_b, G and
lambda those of LAION alone, the scores of a task with query q and exemplars X are

.. math::
    s_i = S(q, i) - S(q, X)\, (I + S(X, X))^{-1}\, S(X, i)                                 \tag{19}

which is the influence under G + sum of phi_x phi_x^T over X: the customised model has learned from
both, and every candidate is damped by its own share, as it must be to compare exemplars with LAION.

    DIR/features/<store>/              LAION, by method's training gradient
    DIR/exemplars/features/<store>/    the exemplars
    DIR/queries/<method>/              the tasks
    DIR/scores/<method>.npy            float32 [task, LAION row]
    DIR/exemplars/<method>.csv         score and rank of every exemplar
    DIR/abc.json, abc.csv, abc.md      the measures
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax import fisher, hosts, score
from ctrak_jax import mesh as devices
from ctrak_jax.config import Config, dump
from ctrak_jax.data import Conditions, Dataset
from ctrak_jax.data.abc import Abc, read_abc
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.mesh import local_mesh
from ctrak_jax.methods import METHODS
from ctrak_jax.models.stable_diffusion import FLOAT32, read_config, text_length, unet_of
from ctrak_jax.stages import featurize, model, train
from ctrak_jax.stages.abc_inputs import (
    APART,
    Asked,
    Codec,
    ExemplarInputs,
    Exemplars,
    LaionInputs,
    asked_of,
    content,
    exemplars_of,
    words_key,
)
from ctrak_jax.stages.abc_results import Candidates, write
from ctrak_jax.stages.coder import Coder
from ctrak_jax.stages.context import Context, digest, write_atomically
from ctrak_jax.stages.gradients import (
    Selected,
    feature_key,
    selected,
    store_of,
)
from ctrak_jax.stages.inputs import Inputs
from ctrak_jax.stages.query_rows import QueryBatch, query_rows, stacked
from ctrak_jax.stages.score import IN_MEMORY, held, load_features, solve
from ctrak_jax.stages.variant import MAIN
from ctrak_jax.store import FeatureStore

FEWEST = 10
"""LAION rows: Recall@10 needs as many candidates."""


@dataclass(frozen=True, kw_only=True)
class Part(Context):
    """LAION or the exemplars, as a run of its own."""

    given: Inputs

    @cached_property
    def inputs(self) -> Inputs:
        return self.given


class Bench(NamedTuple):
    """A prepared run.

    Attributes:
        asked: the tasks in words. codec: what encodes them.
    """

    laion: Part
    abc: Abc
    asked: tuple[Asked, ...]
    exemplars: Exemplars
    codec: Codec

    @property
    def config(self) -> Config:
        return self.laion.config

    @property
    def damping(self) -> float:
        """The largest of ``score.damping``: there are no validation questions to choose by."""
        return max(self.config.score.damping)


def run(config: Config, out: Path) -> None:
    """Every task of ``data.path`` by every method of ``methods``; each part is skipped where its
    result is there and its inputs are unchanged.

    Raises:
        UsageError: another kind of data set, a method without features, or what the readers of the
            benchmark and of the model find wrong. StoreError: results of other settings.
    """
    bench = prepare(config, out)
    if hosts.is_first():
        train.run(bench.laion)
    hosts.barrier("model")
    exemplars = _exemplar_part(bench, model.about(out / "model")["codecs"])
    if hosts.is_first():
        train.run(exemplars)
    hosts.barrier("models")
    for part in (bench.laion, exemplars):
        featurize.run(part)
    if hosts.is_first():
        _ask(bench)
    hosts.barrier("asked")
    _score(bench, exemplars)
    if hosts.is_first():
        write_atomically(out / "config.yaml", dump(config))
    hosts.barrier("abc")


def prepare(config: Config, out: Path) -> Bench:
    """Read the benchmark and put the tasks in words; nothing is computed."""
    if config.data.kind != "abc":
        raise UsageError(
            f"data.kind={config.data.kind} is no benchmark for `ctrak abc`; use data.kind: abc, or "
            "`ctrak run`."
        )
    unfit = [name for name in config.methods if METHODS[name].train is None]
    if unfit:
        raise UsageError(
            f"methods: {unfit[0]} keeps no features, and `ctrak abc` ranks by features; leave it "
            "out."
        )
    folder, path = config.model.checkpoint, config.data.path
    assert folder is not None  # the config sees to it
    assert path is not None
    file = folder / "unet" / "config.json"
    network = unet_of(read_config(file), file, FLOAT32)
    height, width, channels = network.latent_shape
    text = (text_length(folder), network.text_width)
    abc = read_abc(path, latent=(channels, height, width), text=text)
    if len(config.score.damping) > 1:
        logger.warning(
            "score.damping: %s are given and there are no validation questions to choose by; the "
            "largest, %g, is taken for every method",
            list(config.score.damping),
            max(config.score.damping),
        )
    asked = tuple(asked_of(number, task) for number, task in enumerate(abc.tasks))
    plain = sum(question.prompt.learned is None for question in asked)
    if plain:
        logger.warning(
            "%d of %d tasks: no learned_embeds.safetensors or .bin in the folder of their model, "
            "so the token is read as the text encoder splits it",
            plain,
            len(asked),
        )
    mesh = local_mesh(config.run.devices, config.mesh.model)
    dataset = _dataset("AbC LAION", np.arange(len(abc.laion)))
    if config.data.candidates is not None:
        dataset = dataset.subset(config.data.candidates, config.data.seed)
    if len(dataset.train_index) < FEWEST:
        raise UsageError(
            f"{len(dataset.train_index)} LAION rows, Recall@10 needs at least {FEWEST}; raise "
            "data.candidates or use a larger benchmark."
        )
    codec = Codec(Coder(folder, mesh, config.gradient.batch), network.latent_shape)
    args = abc.laion, codec, config.trajectory, dataset.train_index
    laion = Part(
        config=config,
        root=out,
        seed=config.run.seeds[0],
        training_set=dataset,
        dataset=dataset,
        mesh=mesh,
        given=LaionInputs(path, *args),
    )
    return Bench(laion, abc, asked, exemplars_of(abc.tasks), codec)


def _dataset(name: str, index: np.ndarray) -> Dataset:
    """Rows by number alone: no stage looks at their pictures, nor have they attributes."""
    images = np.zeros((len(index), 0, 0, 3), np.uint8)
    raw = RawImages(name=name, images=images, attributes={})
    return Dataset(raw=raw, conditions=Conditions({}), hold_out=(), train_index=index)


def _exemplar_part(bench: Bench, codecs: str) -> Part:
    ctx, index = bench.laion, APART + np.arange(len(bench.exemplars.files))
    dataset = _dataset("AbC exemplars", index)
    args = bench.abc.laion, bench.codec, ctx.config.trajectory, index
    return Part(
        config=ctx.config,
        root=ctx.root / "exemplars",
        seed=ctx.seed,
        place="exemplars",
        training_set=dataset,
        dataset=dataset,
        mesh=ctx.mesh,
        given=ExemplarInputs(bench.exemplars, codecs, *args),
    )


# Questions


def _query_key(bench: Bench, chosen: Selected, method: str) -> dict[str, Any]:
    ctx, spec = bench.laion, METHODS[method].query
    assert spec is not None
    images = [content(task.image) for task in bench.abc.tasks]
    words = [[words_key(q.prompt), words_key(q.minus)] for q in bench.asked]
    asked = digest([model.about(ctx.root / "model")["codecs"], images, words])
    query = ctx.config.query.model_dump(mode="json")
    key = feature_key(ctx, chosen, MAIN, spec, model.sha256(ctx))
    # A question depends on no LAION row.
    return key | {"dataset": "", "encoded": "", "query": query, "tasks": asked}


def _query_place(bench: Bench, method: str) -> Path:
    return bench.laion.root / "queries" / method


def _ask(bench: Bench) -> None:
    """Complete ``queries/<method>/``, a row a task."""
    ctx, methods = bench.laion, bench.config.methods
    chosen = selected(ctx, model.load(ctx), MAIN)
    stores = {
        name: FeatureStore.create(
            _query_place(bench, name),
            _query_key(bench, chosen, name),
            index=np.arange(len(bench.asked)),
            widths={"features": ctx.config.projection.k},
            chunk=1,
        )
        for name in methods
    }
    lacking = {name: {c.start: c for c in store.missing} for name, store in stores.items()}
    todo = sorted(set().union(*lacking.values()))
    if not todo:
        return
    specs = sorted({spec for name in methods if lacking[name] and (spec := METHODS[name].query)})
    size = min(ctx.config.gradient.batch, len(todo))
    size += -size % ctx.mesh.size
    rows = partial(query_rows, ctx, chosen, specs, "local", ctx.inputs.null)
    fn = devices.over_samples(rows, ctx.mesh, chosen.specs)
    weights = devices.put(chosen.weights, ctx.mesh, chosen.specs)
    with stage(ctx.root, "abc questions", ctx.mesh.size) as record:
        record.samples = len(todo)
        with meter("abc questions", len(todo)) as bar:
            for first in range(0, len(todo), size):
                real = np.array(todo[first : first + size])
                found = np.asarray(fn(weights, _batch(bench, devices.padded(real, size))))
                for number, features in zip(real.tolist(), found, strict=False):
                    for name, chunks in lacking.items():
                        if number in chunks:
                            spec = METHODS[name].query
                            assert spec is not None
                            column = features[:, specs.index(spec)]
                            stores[name].write(chunks[number], {"features": column})
                bar.advance(len(real))
        for store in stores.values():
            store.seal()


def _batch(bench: Bench, numbers: np.ndarray) -> QueryBatch:
    """The arrays of some tasks."""
    asked = [bench.asked[n] for n in numbers]
    return QueryBatch(
        bench.codec.latents([bench.abc.tasks[n].image for n in numbers]),
        np.stack([bench.codec.embedding(q.prompt) for q in asked]),
        stacked([[bench.codec.embedding(q.minus)[None]] for q in asked]),
        numbers.astype(np.int32),
    )


# Scores


def _score(bench: Bench, exemplars: Part) -> None:
    """Scores of all candidates, and the measures."""
    ctx, methods = bench.laion, bench.config.methods
    out = ctx.root
    inputs = _score_inputs(bench, exemplars)
    outputs = [out / f"abc.{kind}" for kind in ("json", "csv", "md")]
    finished = ctx.fresh("abc", inputs, *outputs)
    hosts.barrier("scoring")  # all have looked before the first one writes
    if finished:
        return
    with (
        stage(out, "abc scores", ctx.mesh.size) as record,
        meter("abc scores", len(methods)) as bar,
    ):
        found: dict[str, Candidates] = {}
        for method in methods:
            scored = _scored(bench, exemplars, method)
            if scored is not None:
                found[method] = scored
            bar.advance(1)
        record.samples = len(ctx.dataset.train_index) * len(methods)
        record.extra = {"solvers": {name: c.solver for name, c in found.items()}}
        if hosts.is_first():
            write(out, bench.config, bench.abc.tasks, bench.asked, found, damping=bench.damping)
            if not bench.config.score.keep_all:
                for method in methods:
                    _scores_file(out, method).unlink()
            ctx.finish("abc", inputs)
    hosts.barrier("scored")


def _score_inputs(bench: Bench, exemplars: Part) -> dict[str, Any]:
    config = bench.config
    return {
        "model": model.sha256(bench.laion),
        "laion": [bench.laion.dataset.fingerprint, bench.laion.inputs.key],
        "exemplars": exemplars.inputs.key,
        "tasks": [
            [content(task.image), words_key(q.prompt), words_key(q.minus), *map(str, task)]
            for task, q in zip(bench.abc.tasks, bench.asked, strict=True)
        ],
        "config": config.model_dump(
            mode="json", exclude={"name", "out", "run", "mesh", "train", "controls", "store"}
        ),
    }


def _scores_file(out: Path, method: str) -> Path:
    return out / "scores" / f"{method}.npy"


def _scored(bench: Bench, exemplars: Part, method: str) -> Candidates | None:
    """Equation (19) for every task; LAION's scores go to disk. None in a process that has no part
    in it, or that does not measure."""
    ctx = bench.laion
    n, k = len(ctx.dataset.train_index), ctx.config.projection.k
    chosen = selected(ctx, model.load(ctx), MAIN)
    file = _scores_file(ctx.root, method)
    if hosts.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(bench.asked), n)
        np.lib.format.open_memmap(file, "w+", np.float32, shape).flush()
    hosts.barrier("scores begun")
    features = load_features(ctx, MAIN, method)
    if features.solver == "spectrum" and n < k:  # its dual form scores no other rows
        features = features._replace(solver="dual")
    if features.solver in IN_MEMORY and not hosts.is_first():
        return None
    features = held(features)
    own = _store(exemplars, chosen, method).read()
    queries = FeatureStore.open(
        _query_place(bench, method), _query_key(bench, chosen, method)
    ).read()
    try:
        solution = solve(features, np.concatenate([queries, own]), [bench.damping])
    except (ValueError, ArithmeticError) as error:
        raise StoreError(
            f"{featurize.place(ctx, MAIN, store_of(method))}: {error} Raise score.damping, or "
            f"leave {method} out of methods."
        ) from None
    among = np.concatenate(
        [np.asarray(block.features)[0] for block in solution.scores(fisher.Matrix(own))], axis=1
    )
    tasks = len(bench.asked)
    rests = [
        _shares(among[number, rows], among[tasks:][rows][:, rows])
        for number, rows in enumerate(map(_slice, bench.exemplars.of))
    ]
    weights, own_weights = _weights(bench, exemplars, chosen, method)
    laion = np.lib.format.open_memmap(file, "r+")
    for block in solution.scores(features.rows):
        part, scores = _slice(block.rows), np.asarray(block.features)[0]
        for number, rows in enumerate(map(_slice, bench.exemplars.of)):
            influence = scores[number] - rests[number] @ scores[tasks:][rows]
            laion[number, part] = influence * weights[part]
    laion.flush()  # type: ignore[attr-defined]
    if features.shared:
        hosts.barrier("scores written")
    if not hosts.is_first():
        return None
    mine = [
        (rest * own_weights[rows]).astype(np.float32)
        for rest, rows in zip(rests, map(_slice, bench.exemplars.of), strict=True)
    ]
    return Candidates(mine, np.lib.format.open_memmap(file, "r"), solution.solver)


def _shares(query: np.ndarray, among: np.ndarray) -> np.ndarray:
    """S(q, X) (I + S(X, X))^-1, which is also what equation (19) makes of S(q, X)."""
    damped = np.eye(len(query)) + np.asarray(among, np.float64)
    return np.linalg.solve(damped.T, np.asarray(query, np.float64))


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop)


def _store(part: Part, chosen: Selected, method: str) -> FeatureStore:
    """Where a method's training features are."""
    spec = METHODS[method].train
    assert spec is not None
    key = feature_key(part, chosen, MAIN, spec, model.sha256(part))
    return FeatureStore.open(featurize.place(part, MAIN, store_of(method)), key)


def _weights(
    bench: Bench, exemplars: Part, chosen: Selected, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of LAION rows and of exemplars by their denoising errors; norms over both."""
    n, form = len(bench.laion.dataset.train_index), METHODS[method].error_weight
    if form is None:
        return np.ones(n, np.float32), np.ones(len(bench.exemplars.files), np.float32)
    errors = [_store(part, chosen, method).read("errors") for part in (bench.laion, exemplars)]
    found = np.asarray(score.error_weights(np.concatenate(errors), form))
    return found[:n], found[n:]
