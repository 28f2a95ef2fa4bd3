"""A first answer: ``ctrak demo``.

A run of ``shapes.yaml`` whose model comes with the package (``model.safetensors``, read by
:mod:`ctrak_jax.demo.weights`) instead of being trained; every later stage is the pipeline's. What
is printed of it is read from the run's results (:mod:`ctrak_jax.demo.answer`).
"""

from pathlib import Path

from ctrak_jax import pipeline
from ctrak_jax.config import Config, load
from ctrak_jax.demo import weights
from ctrak_jax.demo.answer import Answer as Answer
from ctrak_jax.demo.answer import read as read
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.run import model_file
from ctrak_jax.stages import train
from ctrak_jax.store.files import require_writable

CONFIG = Path(__file__).with_name("shapes.yaml")


def config() -> Config:
    """The settings of the demo."""
    return load(CONFIG)


def run(out: Path, *, trained: bool = False) -> Answer:
    """Every stage of the demo in ``out``, each skipped where its result is there.

    Args:
        trained: train the model instead of taking the one that comes with the package.

    Raises:
        UsageError: ``out`` holds a model of the other kind.
        StoreError: ``out`` holds another run, or the package's model is damaged or of other
            settings.
    """
    settings = config()
    require_writable(out)
    if not trained:
        _place(settings, out)
    elif _holds(out, weights.sha256()):
        raise UsageError(f"{out} holds the model of the package; give another --out to train one.")
    pipeline.run(settings, out, command="demo")
    return read(out)


def _holds(out: Path, sha256: str) -> bool:
    """Is the model there the one with these parameters?"""
    folder = out / "model"
    return (folder / "model.json").exists() and model_file.about(folder)["sha256"] == sha256


def _place(settings: Config, out: Path) -> None:
    """Leave the package's model as a finished training."""
    training = train.training_of(pipeline.prepare(settings, out)[0])
    if not train.done(training):
        given = weights.read(training.architecture.template, training.made_from, weights.FILE)
        train.save(training, given)
        logger.info("train: the model is the package's (%s)", weights.FILE.name)
    elif not _holds(out, weights.sha256()):
        raise UsageError(f"{out} holds a model that was trained there; give another --out.")
