"""Questions of a run about parts of its query images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax import pipeline
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.run.metrics import read_metrics
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import read_tops
from ctrak_jax.stages import query
from ctrak_jax.stages.ask.explain import by_query
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.score import load_query_features

pytestmark = pytest.mark.slow

SIDE = 8
METHODS = ("concept-trak", "trak")


def small(masks: Path | None) -> cfg.Config:
    """One combination, of which one image is asked about and one chooses the damping."""
    return cfg.Config(
        data=cfg.DataConfig(size=24, image_size=SIDE, shapes=("circle",)),
        model=cfg.ModelConfig(width=16, depth=1, heads=2),
        train=cfg.TrainConfig(steps=40, batch=8, warmup=0, scan=40, checkpoint_every=40),
        trajectory=cfg.TrajectoryConfig(steps=6, record_every=3),
        projection=cfg.ProjectionConfig(k=64),
        query=cfg.QueryConfig(
            scopes=("local",),
            combinations=1,
            per_combination=1,
            validation=1,
            check="none",
            minus="null",
            seed=0,
            masks=masks,
        ),
        run=cfg.RunConfig(devices=1),
        methods=METHODS,
        references=(),
        score=cfg.ScoreConfig(top=10),
    )


def write(folder: Path, name: str, mask: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray((255 * mask).astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> Context:
    """A run that asks about two halves of its query image."""
    root = tmp_path_factory.mktemp("masks")
    config = small(root / "masks")
    left = np.zeros((SIDE, SIDE))
    left[:, : SIDE // 2] = 1
    name = query_name(root)
    write(root / "masks", f"{name}@left", left)
    write(root / "masks", f"{name}@right", 1 - left)
    pipeline.run(config, root / "run", ("train", "featurize", "query", "score", "evaluate"))
    (ctx,) = pipeline.prepare(config, root / "run")
    return ctx


def query_name(root: Path) -> str:
    """The id of the image that such a run asks about."""
    (ctx,) = pipeline.prepare(small(None), root / "names")
    (values,) = query.combinations(ctx)
    return "-".join(values.values()) + "-00"


def about(ctx: Context, attribute: str) -> dict[str, int]:
    """The rows of the reported questions about an attribute: of the whole, and of each part."""
    found = {}
    for row, q in enumerate(ctx.questions()):
        if q.attribute == attribute and q.split == "report":
            found[q.query.partition("@")[2] or "whole"] = row
    return found


def test_parts_are_asked_about_after_all_whole_images(masked):
    asked = masked.questions()
    assert [q.about for q in asked] == ["local"] * 4 + ["part"] * 4
    for q in asked[4:]:
        whole = next(w for w in asked if w.key == (q.query.partition("@")[0], q.attribute))
        assert q == replace(whole, query=q.query, mask=f"masks/{q.query}.png")
        assert (masked.folder.queries / q.mask).exists()


@pytest.mark.parametrize("attribute", ["shape", "color"])
def test_the_features_of_two_halves_sum_to_those_of_the_whole(masked, attribute):
    """The gradient of the target shift is linear in it; of one timestep, without normalisation by
    it, so the halves are scaled to their own lengths."""
    row = about(masked, attribute)
    found = load_query_features(masked, pipeline.MAIN, "concept-trak")
    left, right, whole = (found[row[name]] for name in ("left", "right", "whole"))
    basis = np.stack([left, right], axis=1)
    weights, *_ = np.linalg.lstsq(basis, whole, rcond=None)
    np.testing.assert_allclose(basis @ weights, whole, atol=1e-4 * np.abs(whole).max())
    assert (weights > 0).all()
    assert np.abs(left - right).max() > 0.1 * np.abs(left).max()


def test_a_method_that_knows_no_concept_answers_for_the_whole_image(masked):
    found = load_query_features(masked, pipeline.MAIN, "trak")
    row = about(masked, "color")
    np.testing.assert_array_equal(found[row["left"]], found[row["whole"]])


def test_parts_are_ranked_and_measured_apart(masked):
    (name,) = {q.query for q in masked.questions() if q.about == "local" and q.split == "report"}
    tops = read_tops(masked.folder.top("concept-trak"))
    assert {key[0] for key in tops} >= {name, f"{name}@left", f"{name}@right"}
    metrics = read_metrics(masked.folder.root / "metrics.json")
    counts = {
        row.scope: row.queries
        for row in metrics.summary
        if (row.method, row.attribute) == ("concept-trak", "color")
    }
    assert counts == {"local": 1, "part": 2}
    assert {row.scope for row in metrics.rows if "@" in row.query} == {"part"}


def test_a_question_of_the_run_is_asked_again_with_its_mask(masked):
    rows = about(masked, "color")
    of = {
        name: by_query(masked, masked.questions()[row].query, "color") for name, row in rows.items()
    }
    assert of["whole"].mask is None
    left = of["left"].mask
    assert left is not None
    assert left[:, : SIDE // 2].all()
    assert not left[:, SIDE // 2 :].any()
    assert of["left"].number == of["whole"].number, "the same noise"


def test_another_mask_is_another_question(masked):
    """The features of what was asked are not taken for those of what is asked now."""
    part: Question = masked.questions()[-1]
    file = masked.folder.queries / part.mask
    kept = file.read_bytes()
    write(file.parent, file.stem, np.ones((SIDE, SIDE)))
    with pytest.raises(StoreError):
        load_query_features(masked, pipeline.MAIN, "concept-trak")
    file.write_bytes(kept)
    load_query_features(masked, pipeline.MAIN, "concept-trak")


def test_other_masks_need_another_folder_and_a_mask_needs_its_query(masked, tmp_path):
    write(tmp_path / "masks", "nobody-00@left", np.ones((SIDE, SIDE)))
    config, root = small(tmp_path / "masks"), masked.folder.root
    with pytest.raises(StoreError, match="other query settings"):
        pipeline.run(config, root, ("query",))
    with pytest.raises(UsageError, match="'nobody-00' is no query image that is reported"):
        pipeline.run(config, tmp_path / "run", ("train", "query"))
