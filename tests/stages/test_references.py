"""References of a class-conditional run, against plain NumPy; no model is trained."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax import metrics
from ctrak_jax.attribution.references import SPACING
from ctrak_jax.config.rules import references_of
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.models.clip import load_clip
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.questions import Question
from ctrak_jax.run.variants import CONTROLS, Variant, unnamed
from ctrak_jax.stages import references
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.references import ReferenceQuestion
from tests.tiny_clip import write_clip

HELD_OUT = {"shape": "triangle", "color": "red"}
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 8, 8, 3), np.uint8)
NONE = np.zeros(0, np.float32)


@pytest.fixture
def ctx(tmp_path) -> Context:
    config = cfg.Config(data=cfg.DataConfig(size=200, image_size=8, hold_out=(HELD_OUT,)))
    data = build(config.data)
    return Context(
        config=config,
        folder=RunFolder(root=tmp_path),
        seed=0,
        training_set=data,
        dataset=data,
        mesh=local_mesh(1),
    )


def asked(query: int = 0, concept: str = "color", *, local: bool = True) -> ReferenceQuestion:
    return ReferenceQuestion(
        f"q{query}", concept, HELD_OUT[concept], NONE, IMAGES[query] if local else None
    )


def score(ctx: Context, name: str, *questions: ReferenceQuestion) -> np.ndarray:
    return references.scores(ctx, ctx.samples(), name, questions or [asked()])


def shuffled(ctx: Context) -> tuple[Context, np.ndarray]:
    """The same candidates in another order, and which each one is."""
    order = np.random.default_rng(1).permutation(len(ctx.dataset.train_index))
    data = replace(ctx.dataset, train_index=ctx.dataset.train_index[order])
    return replace(ctx, dataset=data), order


@pytest.mark.parametrize("concept", ["shape", "color"])
def test_looking_labels_up_has_precision_one_out_of_distribution(ctx, concept):
    """No candidate has both values: the labels alone say it, at any depth."""
    (found,) = score(ctx, "labels", asked(concept=concept))
    relevant = ctx.dataset.carries(concept, HELD_OUT[concept])
    ranked = np.argsort(-found)
    assert metrics.precision_at_k(ranked, relevant, int(relevant.sum())) == 1.0
    assert len(np.unique(found)) == len(found)


def test_labels_of_equal_rank_come_in_another_order_for_every_question(ctx):
    first = [set(np.argsort(-row)[:10]) for row in score(ctx, "labels", asked(0), asked(1))]
    assert first[0] != first[1]
    assert first[0] != set(np.flatnonzero(ctx.dataset.carries("color", "red"))[:10])


@pytest.mark.parametrize("name", ["labels", "random", "similarity-pixels"])
def test_the_order_of_the_candidates_changes_no_score(ctx, name):
    other, order = shuffled(ctx)
    found, mine = score(other, name), score(ctx, name)[:, order]
    if name == "similarity-pixels":
        np.testing.assert_allclose(found, mine, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found, mine)


def test_labels_of_the_wrong_label_control_are_those_that_it_gives(ctx):
    samples = ctx.samples(CONTROLS["wrong-label"])
    (found,) = references.scores(ctx, samples, "labels", [asked()])
    red = ctx.dataset.carries("color", "red")
    given = red[samples.labels]
    assert (given != red).any()
    assert found[given].min() > found[~given].max()


def test_labels_are_chance_where_conditions_do_not_name_the_attribute(ctx):
    samples = ctx.samples(unnamed(ctx.config)[1])
    questions = [asked(), asked(concept="shape")]
    found, shape = references.scores(ctx, samples, "labels", questions)
    carries = ctx.candidates().carries("color", "red")[np.isin(ctx.samples().index, samples.index)]
    places = np.argsort(np.argsort(-found)) / (len(found) - 1)
    deviation = np.sqrt((1 / 12) * (1 / carries.sum() + 1 / (~carries).sum()))
    assert abs(places[carries].mean() - places[~carries].mean()) < 4 * deviation
    assert found.max() < SPACING
    assert set(np.round(shape)) == {0, 1}


def test_a_part_of_the_candidates_is_scored_as_among_all(ctx):
    part = Variant("part", "part", candidates=50)
    rows = np.flatnonzero(np.isin(ctx.samples().index, ctx.samples(part).index))
    assert len(rows) == 50
    (found,) = references.scores(ctx, ctx.samples(part), "similarity-pixels", [asked()])
    np.testing.assert_allclose(found, score(ctx, "similarity-pixels")[0, rows], rtol=1e-6)


def test_pixels_are_compared_between_minus_one_and_one(ctx):
    found = score(ctx, "similarity-pixels", asked(0), asked(1), asked(0, "shape"))
    theirs = ctx.dataset.raw.images[ctx.dataset.train_index].astype(float) / 127.5 - 1
    mine = IMAGES.astype(float) / 127.5 - 1
    wanted = [-np.sqrt(((theirs - mine[i]) ** 2).sum((1, 2, 3))) for i in (0, 1, 0)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_global_question_has_no_picture_to_compare(ctx):
    found = score(ctx, "similarity-pixels", asked(0, local=False), asked(1))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert np.isnan(score(ctx, "similarity-pixels", asked(0, local=False))).all()
    for name in ("labels", "random"):
        assert np.isfinite(score(ctx, name, asked(0, local=False))).all()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_of_any_size_give_the_same(ctx, monkeypatch, size):
    whole = score(ctx, "similarity-pixels", asked(0), asked(1))
    monkeypatch.setattr(references, "READ", size)
    np.testing.assert_allclose(
        score(ctx, "similarity-pixels", asked(0), asked(1)), whole, rtol=1e-6
    )


def test_questions_about_one_picture_share_its_arrays(ctx):
    ctx.folder.queries.mkdir()
    Image.fromarray(IMAGES[0]).save(ctx.folder.queries / "a.png")
    first = Question(
        query="a",
        condition=HELD_OUT,
        attribute="shape",
        minus={},
        scope="local",
        scenario="ood",
        split="report",
        image="a.png",
    )
    second = replace(first, attribute="color")
    third = replace(second, query="b", scope="global", image="no.png")
    found = references.reference_questions(ctx, [first, second, third])
    assert [(q.query, q.concept, q.value) for q in found] == [
        *(("a", "shape", "triangle"), ("a", "color", "red"), ("b", "color", "red")),
    ]
    assert found[0].image is found[1].image
    assert found[0].image is not None
    np.testing.assert_array_equal(found[0].image, IMAGES[0])
    assert found[2].image is None


def test_the_label_of_words_is_refused(ctx):
    with pytest.raises(UsageError, match=r"'in red' is none; ask by --condition and --concept"):
        score(ctx, "labels", ReferenceQuestion("q", "in red", None, NONE, IMAGES[0]))


# CLIP


def with_clip(ctx: Context, folder) -> Context:
    similarity = cfg.SimilarityConfig(clip=folder)
    return replace(ctx, config=ctx.config.model_copy(update={"similarity": similarity}))


def test_clip_compares_embeddings_by_their_cosine(ctx, tmp_path):
    clip = load_clip(write_clip(tmp_path))
    found = score(with_clip(ctx, tmp_path), "similarity-clip", asked(2))
    some = np.array([0, 31, 32, 100])  # on both sides of a batch's end
    images = [IMAGES[2], *ctx.dataset.raw.images[ctx.dataset.train_index[some]]]
    vectors = [clip.network.apply(clip.params, clip.network.prepare(image)) for image in images]
    mine, *theirs = (v / np.linalg.norm(v) for v in map(np.asarray, vectors))
    np.testing.assert_allclose(found[0, some], theirs @ mine, atol=1e-5)


def test_clip_without_its_folder_is_refused(ctx, tmp_path):
    with pytest.raises(UsageError, match="give that, or use another reference"):
        score(ctx, "similarity-clip")
    with pytest.raises(UsageError, match=r"config\.json is missing"):
        references.clip_key(with_clip(ctx, tmp_path))


def test_other_weights_are_another_key(ctx, tmp_path):
    used = with_clip(ctx, write_clip(tmp_path))
    before, file = references.clip_key(used), tmp_path / "flax_model.msgpack"
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    assert references.clip_key(used) != before


# Which there are


def test_a_run_compares_with_all_that_there_can_be(ctx):
    always = ("labels", "random", "similarity-pixels")
    assert tuple(references_of(ctx.config)) == always
    assert ctx.compared() == (*ctx.config.methods, *always)
    assert with_clip(ctx, "clip").compared()[-1] == "similarity-clip"
    none = replace(ctx, config=ctx.config.model_copy(update={"references": ()}))
    assert none.compared() == ctx.config.methods


def test_a_control_of_parameters_has_no_references(ctx):
    assert ctx.compared(CONTROLS["no-condition-embedding"]) == ctx.config.methods
    assert ctx.compared(CONTROLS["wrong-label"]) == ctx.compared()
