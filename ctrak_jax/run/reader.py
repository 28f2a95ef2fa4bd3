"""A run on disk, opened for reading: :func:`open_run`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax import data
from ctrak_jax.data.looking import RECORD, Record
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.methods import METHODS, store_of
from ctrak_jax.run.dampings import Damping, read_dampings
from ctrak_jax.run.folder import RunFolder, ensemble_folder, seed_folder
from ctrak_jax.run.metrics import Metrics, read_metrics
from ctrak_jax.run.questions import Question, read_questions
from ctrak_jax.run.retraining import LdsTable, RemovalTable, read_counterfactual, read_lds
from ctrak_jax.run.tops import Tops, lowest, read_tops
from ctrak_jax.run.variants import featurized_in, folder_without, unnamed
from ctrak_jax.store import FeatureStore, Place, read_manifest, read_score_rows, read_scores


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """How training images rank for questions. Nothing is computed; what is missing is a StoreError
    that names the command which writes it.

    Attributes:
        folder: where the results are.
    """

    folder: RunFolder

    @cached_property
    def questions(self) -> Sequence[Question]:
        """All questions, in the order of the rows of features and scores."""
        return read_questions(self.folder.questions)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The methods that have rankings."""
        there = {path.stem for path in (self.folder.root / "top").glob("*.csv")}
        return tuple(method for method in METHODS if method in there)

    def tops(self, method: str, *, without: str | None = None, depth: int | None = None) -> Tops:
        """The first training images for every question, by ``question.key``; of candidates whose
        conditions do not name the attribute ``without``, for every question about it. All that
        ``score.top`` kept, or the first ``depth``."""
        return read_tops(self.part(without).top(method), depth)

    def bottoms(
        self, method: str, index: np.ndarray, *, without: str | None = None, depth: int = 10
    ) -> Tops:
        """The last training images for every question, lowest score first: read from all scores
        (``score.keep_all``), a few questions at a time.

        Args:
            method: whose scores.
            index: the dataset indices of the candidates [sample].
            without: as for :meth:`tops`.
            depth: how many.

        Raises:
            StoreError: the scores are missing or damaged, or are of other candidates.
        """
        asked = [q.key for q in self.questions if without in (None, q.attribute)]
        path, found = self.part(without).scores(method), {}
        for start, scores in read_score_rows(path):
            if scores.shape[1] != len(index) or start + len(scores) > len(asked):
                raise StoreError(
                    f"{path}: scores of {scores.shape[1]} candidates, expected {len(index)} for "
                    f"{len(asked)} questions; run `ctrak score` again."
                )
            for key, row in zip(asked[start : start + len(scores)], scores, strict=True):
                if not np.isnan(row).any():
                    found[key] = lowest(row, index, depth)
        return found

    def scores(self, method: str, *, without: str | None = None) -> np.ndarray:
        """Scores [question, sample] by row of the features (``score.keep_all``); of candidates
        whose conditions do not name the attribute ``without``, for the questions about it."""
        return read_scores(self.part(without).scores(method))

    def part(self, without: str | None) -> RunFolder:
        """Where rankings and scores are: of all candidates as they are (None), or without their
        value of an attribute."""
        return self.folder.part("" if without is None else folder_without(without))


@dataclass(frozen=True, kw_only=True)
class SeedRun(Rankings):
    """The results of one training seed.

    Attributes:
        seed: of the training.
        config: what the run was made with.
    """

    seed: int
    config: cfg.Config

    @cached_property
    def dampings(self) -> dict[str, Damping]:
        """The damping of every method that solves with one, and its curve."""
        return read_dampings(self.folder.dampings)

    def image_file(self, question: Question) -> Path:
        """The picture of a question's image; for a global one, several side by side."""
        path = self.folder.queries / question.image
        if not path.is_file():
            raise StoreError(f"{path} is missing; delete its folder and run `ctrak query` again.")
        return path

    def image(self, question: Question) -> np.ndarray:
        """The same as an array: uint8 [H, W, 3]."""
        with Image.open(self.image_file(question)) as picture:
            return np.asarray(picture.convert("RGB"))

    def features(self, method: str, *, without: str | None = None) -> FeatureStore:
        """The features of the training images: rows [sample, k], and ``index`` of the data set.

        Those of ``concept-trak`` are label-free: taken under the null condition, unless
        ``trajectory.condition`` is ``own``. By default its answers to questions about an attribute
        come from the features without that attribute::

            run.features("concept-trak")                     # the null condition
            run.features("concept-trak", without="color")    # all that is named but the color

        Args:
            without: the attribute that no candidate's condition names, one of
                ``unnamed.attributes``; None for the main features. A method that is told no
                condition has its main features there, too.
        """
        store = store_of(method)
        main = self.folder.features(store)
        variants = [v for v in unnamed(self.config) if v.without == without]
        if variants:
            count = read_manifest(main)["rows"]
            variant = featurized_in(self.config, method, variants[0], count)
            return _opened(self.folder.part(variant.folder).features(store))
        return _opened(self.part(without).features(store))

    def query_features(self, method: str) -> FeatureStore:
        """The features of the questions: rows [question, k]."""
        return _opened(self.folder.query_features(method))


@dataclass(frozen=True, kw_only=True)
class Run(SeedRun):
    """A run. Its questions, rankings, features and scores are those of its first training seed.

    Attributes:
        path: DIR of the command line.
        seeds: every training seed's results.
    """

    path: Path
    seeds: Mapping[int, SeedRun]

    @cached_property
    def ensemble(self) -> Rankings:
        """The average of all training seeds (``score.ensemble``), which ranks for the questions of
        the first one: :meth:`image` has their pictures.

        Raises:
            StoreError: the scores were not averaged.
        """
        folder = ensemble_folder(self.path)
        if not folder.root.is_dir():
            raise StoreError(
                f"{folder.root} is missing; run `ctrak score` with score.ensemble: true."
            )
        return Rankings(folder=folder)

    @cached_property
    def metrics(self) -> Metrics:
        """What was measured, over all seeds."""
        return read_metrics(self.path / "metrics.json")

    @cached_property
    def counterfactual(self) -> RemovalTable:
        """What retraining without the first images gave."""
        return read_counterfactual(self.path / "counterfactual.json")

    @cached_property
    def lds(self) -> LdsTable:
        """How well scores predict what models trained on random halves give."""
        return read_lds(self.path / "lds.json")

    @cached_property
    def dataset(self) -> data.Dataset:
        """The data set, drawn or read again: ``dataset.raw.images[hit.index]``."""
        record = Record(self.path / RECORD, is_written=False)
        by_caption = self.config.model.kind == "text-to-image"
        return data.build(self.config.data, record=record, by_caption=by_caption)


def open_run(path: str | Path) -> Run:
    """Open a run for reading.

    Example::

        run = ctrak_jax.open_run("runs/synthetic")
        for row in run.metrics.summary:
            print(row.method, row.scope, row.scenario, row.attribute, row.interval)
        unnamed = run.metrics.unnamed.summary  # the same, where no condition names the attribute
        tops = run.tops("concept-trak")
        for question in run.questions:
            picture = run.image(question)
            images = [run.dataset.raw.images[hit.index] for hit in tops[question.key]]

    Args:
        path: the folder of the run (``--out``).

    Returns:
        Typed tables, images, features and scores, read when asked for; ``run.seeds[3]`` has those
        of one training seed, and ``run.ensemble`` those of their average.

    Raises:
        UsageError: it is no folder of a run.
    """
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise UsageError(f"{path} holds no config.yaml; give the folder of a run.")
    config = cfg.load(path / "config.yaml")
    folders = {seed: seed_folder(config, path, seed) for seed in config.run.seeds}
    seeds = {
        seed: SeedRun(seed=seed, folder=folder, config=config) for seed, folder in folders.items()
    }
    first = config.run.seeds[0]
    return Run(seed=first, folder=folders[first], config=config, path=path, seeds=seeds)


def _opened(place: Place) -> FeatureStore:
    return FeatureStore(place, read_manifest(place))
