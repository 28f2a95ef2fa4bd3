"""A run that is also asked with a reward in a user's file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import pipeline
from ctrak_jax.config import Config
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.run.metrics import read_metrics
from ctrak_jax.run.tops import read_tops
from ctrak_jax.stages.ask import attribute
from ctrak_jax.store import read_scores

TEXT = """
def color(image, value):
    channel = {"red": 0, "blue": 2}.get(value)
    return None if channel is None else image[..., channel].mean() - image[..., 1].mean()


def brightness(image):
    return (image ** 2).mean()
"""


def config(file: Path, **sections) -> Config:
    return Config.model_validate(
        {
            "methods": ["concept-trak"],
            "references": ["random"],
            "controls": [],
            "data": {"size": 48, "image_size": 8},
            "model": {"width": 16, "depth": 1, "heads": 2},
            "train": {"steps": 2, "batch": 8, "warmup": 0},
            "trajectory": {"steps": 6, "record_every": 2, "timesteps": 2},
            "projection": {"k": 32},
            "query": {
                "reward": f"python:{file}:color",
                "per_combination": 1,
                "validation": 1,
                "trajectories": 1,
                "check": "none",
            },
            "score": {"k": 3, "top": 5},
            "evaluate": {"k": [3], "bootstrap": 100},
            "run": {"devices": 1},
        }
        | sections
    )


STAGES = ("train", "featurize", "query", "score", "evaluate")


@pytest.mark.slow
def test_a_reward_stands_beside_the_slider_for_what_it_judges(tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(TEXT)
    wanted = config(file)
    pipeline.run(wanted, out, STAGES)
    (ctx,) = pipeline.prepare(wanted, out)
    tops = {name: read_tops(ctx.folder.top(name)) for name in ("concept-trak", "reward")}
    assert {key for _, key in tops["concept-trak"]} == {"shape", "color"}
    assert set(tops["reward"]) == {key for key in tops["concept-trak"] if key[1] == "color"}
    rows = [row for row in read_metrics(out / "metrics.json").rows if row.method == "reward"]
    assert {row.attribute for row in rows} == {"color"}
    assert {row.scope for row in rows} == {"local", "global"}
    scores, asked = read_scores(ctx.folder.scores("reward")), ctx.questions()
    unanswered = [np.isnan(scores[row]).all() for row in range(len(asked))]
    assert unanswered == [q.attribute == "shape" for q in asked]

    # One's own question about the same image is the run's; another needs no condition.
    row, question = next(
        (n, q) for n, q in enumerate(asked) if q.attribute == "color" and q.scope == "local"
    )
    condition = ",".join(f"{name}={value}" for name, value in question.condition.items())
    picture = ctx.folder.queries / question.image
    mine = attribute.ask(
        ctx, image=picture, condition=condition, concept="color", method="reward", top=5
    ).found
    assert mine["reward"] == wanted.query.reward
    order = [int(i) for i in np.argsort(-scores[row], kind="stable")[:5]]
    assert [hit["index"] for hit in mine["top"]] == ctx.dataset.train_index[order].tolist()
    (other,) = pipeline.prepare(config(file, query={"reward": f"python:{file}:brightness"}), out)
    free = attribute.ask(
        other, image=picture, condition=None, concept="reward", method="reward", top=5
    ).found
    assert len({hit["index"] for hit in free["top"]}) == 5

    # Another content of the file is another reward: the features that are there are not its own.
    kept = {name: stamp(ctx.folder.query_features(name)) for name in ("concept-trak", "reward")}
    file.write_text(TEXT.replace("- image[..., 1].mean()", "- (image[..., 1] ** 2).mean()"))
    with pytest.raises(StoreError, match=r"queries/reward.*differing fields: reward"):
        pipeline.run(wanted, out, ("query",))
    assert kept == {name: stamp(ctx.folder.query_features(name)) for name in kept}


def stamp(folder: Path) -> int:
    return (folder / "manifest.json").stat().st_mtime_ns


@pytest.mark.slow
def test_a_model_without_conditions_is_asked_by_a_reward(tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(TEXT)
    data = {"size": 48, "image_size": 8, "condition_on": []}
    wanted = config(file, data=data, query={"reward": f"python:{file}:brightness"})
    assert pipeline.stages_of(wanted) == ("train", "encode", "featurize")
    pipeline.run(wanted, out, ("train", "featurize"))
    (ctx,) = pipeline.prepare(wanted, out)
    picture = tmp_path / "asked.png"
    Image.fromarray(ctx.dataset.raw.images[0]).save(picture)
    found = attribute.ask(
        ctx, image=picture, condition=None, concept="reward", method="reward", top=5
    ).found
    assert found["condition"] == {}
    scores = [hit["score"] for hit in found["top"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0


def test_without_conditions_a_reward_is_needed():
    with pytest.raises(ValueError, match="a reward alone can ask it"):
        Config.model_validate({"data": {"condition_on": []}})


def test_a_wrong_reward_is_refused_before_any_work(tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text("def color(image):\n    return (image > 0).mean()\n")
    with pytest.raises(UsageError, match=f"{file}:1: color: for shape=.*gradient is 0"):
        pipeline.run(config(file), out)
    assert not out.exists()
