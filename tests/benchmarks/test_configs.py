"""The configs of the benchmarks' data sets."""

import pytest

from benchmarks import draw_robots, photographs
from ctrak_jax import config
from ctrak_jax.config import Config
from ctrak_jax.data import build
from ctrak_jax.models.architecture import dit_of
from tests.paths import ROOT

VALUES = {
    "robots": {name: set(known) for name, known in draw_robots.VALUES.items()},
    "photographs": {
        "motif": set(photographs.MOTIFS),
        "tint": set(photographs.TINTS),
        "style": set(photographs.STYLES),
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_held_out_exists(name):
    data = config.load(ROOT / "benchmarks" / f"{name}.yaml").data
    assert list(data.condition_on) == list(VALUES[name])
    for held in data.hold_out:
        assert all(value in VALUES[name][attribute] for attribute, value in held.items())


def test_the_papers_benchmark_has_the_papers_values():
    """Of method.md, section 7; the preset `published` gives what the file does not say."""
    found = config.load(ROOT / "configs" / "synthetic_paper.yaml")
    assert found.data.image_size == 64
    data = build(found.data.model_copy(update={"image_size": 16}))  # as many, drawn faster
    assert len(data.train_index) == 10_000
    assert [dict(held) for held in found.data.hold_out] == [{"shape": "triangle", "color": "red"}]
    assert {*found.data.shapes} == {"triangle", "circle"}
    assert {*found.data.colors} == {"red", "blue"}

    network = dit_of(found.model)
    assert (network.patch, network.depth, network.width, network.heads) == (4, 6, 512, 8)
    assert (found.schedule.kind, found.schedule.steps, found.schedule.prediction) == (
        *("linear", 1000, "eps"),
    )
    assert found.train.batch == 128
    epochs = found.train.steps * found.train.batch / len(data.train_index)
    assert epochs == pytest.approx(100, abs=0.01)

    t, q, p = found.trajectory, found.query, found.projection
    assert (t.steps, found.timesteps, t.path, t.condition) == (50, 9, "inversion", "own")
    assert (t.guidance, t.negative, found.negatives) == (7.5, "null", 1)
    assert (q.guidance, q.scale, q.eta, q.repetitions > 1) == (7.5, 7.5, 0.1, True)
    assert q.scopes == ("local", "global")
    assert (p.k, p.kind != "mask") == (32_768, True)
    assert set(found.methods) == {
        *("concept-trak", "trak", "d-trak", "das", "unlearning"),
        *("ablation-base", "ablation-a", "ablation-b", "ablation-c"),
    }
    assert found.data.candidates is None, "all of them are attributed over"
    assert found.score.damping == Config().score.damping, "chosen on validation questions"
    assert q.validation > 0
