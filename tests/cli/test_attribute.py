"""Bad questions: the exit status and the line."""

import pytest
from PIL import Image

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


def test_a_question_to_no_model_exits_with_1(ctrak, tmp_path):
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image.png")
    status, line, _ = ctrak(
        "attribute", write_config(tmp_path), "--image", "image.png",
        "--condition", "shape=circle,color=red", "--concept", "color",
    )  # fmt: skip
    assert status == 1
    assert "ctrak train" in line
