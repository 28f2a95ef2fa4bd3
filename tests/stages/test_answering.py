"""By which damping a question of one's own is answered."""

import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.run.dampings import Damping, write_dampings
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.stages.ask.question import answering
from ctrak_jax.stages.context import Context

CHOSEN = Damping(chosen=10.0, by_attribute={"color": 0.1}, curve=())


@pytest.fixture
def asked(tmp_path):
    """The damping of a question about an attribute, under some ``score.damping``."""
    folder = RunFolder(root=tmp_path)

    def found(*damping: float, attribute: str | None = None, method: str = "trak") -> float | None:
        config = cfg.Config(
            data=cfg.DataConfig(size=24, image_size=8),
            score=cfg.ScoreConfig(damping=damping) if damping else cfg.ScoreConfig(),
        )
        data = build(config.data)
        ctx = Context(
            config=config,
            folder=folder,
            seed=0,
            training_set=data,
            dataset=data,
            mesh=local_mesh(1),
        )
        return answering(ctx, method, 5, attribute).damping

    return found


@pytest.fixture
def scored(asked, tmp_path):
    """The same of a run with scores."""
    write_dampings(RunFolder(root=tmp_path).dampings, {"trak": CHOSEN})
    return asked


def test_what_the_scores_chose_is_taken(scored):
    assert scored() == 10.0
    assert scored(attribute="color") == 0.1
    assert scored(0.1, 10.0, 50.0) == 10.0, "it is among the values given"


def test_one_value_given_is_taken_whatever_the_scores_chose(scored):
    assert scored(3.0) == 3.0
    assert scored(3.0, attribute="color") == 3.0


def test_several_values_without_the_chosen_one_are_refused(scored):
    with pytest.raises(UsageError, match=r"score\.damping=\[3, 50\]: 0\.1, .* '\[50\]', or run"):
        scored(3.0, 50.0, attribute="color")


def test_without_scores_the_largest_is_taken(scored):
    assert scored(3.0, 7.0, 50.0, method="das") == 50.0, "which has no scores"


def test_before_any_scores_the_largest_is_taken(asked):
    assert asked(3.0, 7.0, 50.0) == 50.0
    assert asked(attribute="color") == 1e5
