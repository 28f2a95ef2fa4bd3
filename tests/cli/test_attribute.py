"""Bad questions: the exit status and the line."""

import pytest
from PIL import Image

from ctrak_jax.config import DataConfig
from ctrak_jax.errors import UsageError
from ctrak_jax.stages.ask import question
from tests.cli.small import write_config

SIDE = 16
ASKED = {
    "no condition": ({"--condition": "red"}, "--condition"),
    "unknown attribute": ({"--condition": "style=red"}, "'style=red'"),
    "unknown value": ({"--condition": "shape=circle,color=green"}, "color='green'"),
    "concept not in the condition": ({"--concept": "style"}, "'style'"),
    "unknown method": ({"--method": "tark"}, "'tark'"),
    "a method without gradients": ({"--method": "unlearning"}, "'unlearning'"),
    "a reference of other models": ({"--method": "similarity-text"}, "text-to-image"),
    "CLIP without a folder": ({"--method": "similarity-clip"}, "similarity.clip"),
    "nothing wanted": ({"--top": "0"}, "--top 0"),
    "more than there are": ({"--top": "25"}, "24 training images"),
    "image missing": ({"--image": "none.png"}, "none.png"),
    "image is no image": ({"--image": "some.yaml"}, "some.yaml"),
    "image of another size": ({"--image": "large.png"}, "large.png"),
    "reward of no file": ({"--reward": "python:none.py:f"}, "none.py: No such file"),
    "reward of no kind": ({"--reward": "redness"}, "is no reward"),
    "reward by another method": ({"--reward": "python:a.py:f", "--method": "das"}, "--method das"),
    "no reward": ({"--method": "reward"}, "give --reward"),
    "mask missing": ({"--mask": "none.png"}, "--mask none.png"),
    "mask of another size": ({"--mask": "large.png"}, "is 16 x 32 pixels, the image 16 x 16"),
    "mask all black": ({"--mask": "image.png"}, "all black"),
    "mask for a method without a concept": (
        {"--mask": "image.png", "--method": "trak"},
        "'trak' has none",
    ),
}


@pytest.mark.parametrize(("changes", "word"), ASKED.values(), ids=ASKED.keys())
def test_a_bad_question_exits_with_2(ctrak, tmp_path, changes, word):
    path = write_config(tmp_path)
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image.png")
    Image.new("RGB", (SIDE, 2 * SIDE)).save(tmp_path / "large.png")
    question = {
        "--image": "image.png",
        "--condition": "shape=circle,color=red",
        "--concept": "color",
    } | changes
    argv = [part for pair in question.items() for part in pair]
    status, line, out = ctrak("attribute", path, "--out", tmp_path / "out", *argv)
    assert (status, out) == (2, "")
    assert word in line


def test_an_answer_without_gradients_is_not_explained(ctrak, tmp_path):
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image.png")
    status, line, out = ctrak(
        "attribute", write_config(tmp_path), "--image", "image.png", "--explain",
        "--condition", "shape=circle,color=red", "--concept", "color", "--method", "labels",
    )  # fmt: skip
    assert (status, out) == (2, "")
    assert "'labels' works by no gradients; use one of ['concept-trak'" in line


def test_averages_that_no_run_makes_have_no_groups(ctrak, tmp_path):
    path = write_config(tmp_path)
    status, line, _ = ctrak("groups", path, "--by", "color", "--ensemble")
    assert status == 2
    assert "score.ensemble: true and several run.seeds" in line
    status, line, _ = ctrak("groups", path, "--by", "color", "--ensemble", "--seed", "0")
    assert (status, "--seed does not go with --ensemble" in line) == (2, True)


OWN = {
    "of the run and of one's own": (("--query", "a-00"), "--condition does not go with --query"),
    "averages": (("--ensemble",), "--condition does not go with --ensemble"),
    "no image": ((), "groups needs --image, --condition and --concept"),
}


@pytest.mark.parametrize(("given", "words"), OWN.values(), ids=OWN.keys())
def test_groups_take_the_run_s_questions_or_a_whole_one_of_one_s_own(ctrak, tmp_path, given, words):
    asked = ("groups", write_config(tmp_path), "--by", "color", "--condition", "color=red")
    status, line, _ = ctrak(*asked, *given)
    assert (status, words in line) == (2, True)


def test_a_picture_is_read_as_training_pictures_are(tmp_path):
    """Larger, see-through on its right half, and turned by EXIF so that this half is above."""
    picture, exif = Image.new("RGBA", (4 * SIDE, 4 * SIDE), (255, 0, 0, 255)), Image.Exif()
    picture.paste((0, 0, 0, 0), (2 * SIDE, 0, 4 * SIDE, 4 * SIDE))
    exif[0x0112] = 8
    picture.save(tmp_path / "image.png", exif=exif)
    data = DataConfig(
        kind="folder", path=tmp_path, resize=True, image_size=SIDE, background=(0, 0, 255)
    )
    found = question.read_picture(tmp_path / "image.png", data, (SIDE, SIDE, 3))
    assert found.shape == (SIDE, SIDE, 3)
    assert (found[: SIDE // 4] == [0, 0, 255]).all()
    assert (found[-SIDE // 4 :] == [255, 0, 0]).all()
    whole = data.model_copy(update={"resize": False})
    with pytest.raises(UsageError, match=r"is 64 x 64 pixels, the model takes 16 x 16; crop and"):
        question.read_picture(tmp_path / "image.png", whole, (SIDE, SIDE, 3))


def test_a_question_to_no_model_exits_with_1(ctrak, tmp_path):
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image.png")
    status, line, _ = ctrak(
        "attribute", write_config(tmp_path), "--image", "image.png",
        "--condition", "shape=circle,color=red", "--concept", "color",
    )  # fmt: skip
    assert status == 1
    assert "ctrak train" in line
