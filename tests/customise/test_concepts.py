"""The list of concepts: a folder, JSON, CSV; what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.config import CustomiseConfig
from ctrak_jax.customise.concepts import MOST, read_concepts
from ctrak_jax.errors import UsageError


def put(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file)


@pytest.fixture
def pictures(tmp_path) -> Path:
    for name in ("mug/b.png", "mug/a.JPG", "mug/.hidden.png", "monet/1.png", ".cache/1.png"):
        put(tmp_path / "pics" / name)
    (tmp_path / "pics" / "mug" / "notes.txt").write_text("not a picture")
    return tmp_path / "pics"


def settings(concepts: Path | None, **more: Any) -> CustomiseConfig:
    return CustomiseConfig.model_validate({"concepts": concepts, "initial": "cup"} | more)


def listed(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "list.json"
    file.write_text(json.dumps(rows))
    return file


def test_a_folder_has_a_concept_per_folder(pictures):
    monet, mug = read_concepts(settings(pictures))
    assert [monet.name, mug.name] == ["monet", "mug"]
    assert [file.name for file in mug.pictures] == ["a.JPG", "b.png"]
    assert (mug.kind, mug.token, mug.initial) == ("object", "<new1>", "cup")
    assert mug.train_prompt == "<new1> cup"
    assert mug.prompts == ("<new1> cup",)


def test_a_folder_of_pictures_alone_is_one_concept(pictures):
    (found,) = read_concepts(settings(pictures / "mug", kind="style", token="<mug>"))
    assert (found.name, len(found.pictures)) == ("mug", 2)
    assert found.train_prompt == "A picture in the style of <mug> art"


ROWS = [
    {
        "name": "mug",
        "pictures": ["mug/b.png", "monet"],
        "kind": "object",
        "prompts": ["a {token} {initial} outdoors", "{token}"],
    },
    {"name": "monet", "pictures": "monet", "kind": "style", "initial": "art", "token": "<monet>"},
]
CSV = """name,pictures,kind,initial,token,prompts
mug,mug/b.png|monet,object,,,a {token} {initial} outdoors|{token}
monet,monet,style,art,<monet>,
"""


def test_a_list_says_what_differs_and_both_forms_say_the_same(pictures):
    (pictures / "list.csv").write_text("\ufeff" + CSV)
    mug, monet = read_concepts(settings(listed(pictures, *ROWS)))
    assert mug.prompts == ("a <new1> cup outdoors", "<new1>")
    assert [file.relative_to(pictures).as_posix() for file in mug.pictures] == [
        "mug/b.png",
        "monet/1.png",
    ]
    assert (monet.token, monet.initial, monet.kind) == ("<monet>", "art", "style")
    assert read_concepts(settings(pictures / "list.csv")) == (mug, monet)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"pictures": []}, "concept 'mug': 0 pictures, expected 1 to 21"),
        ({"pictures": "empty"}, "concept 'mug': 0 pictures, expected 1 to 21"),
        ({"pictures": "many"}, "concept 'mug': 22 pictures, expected 1 to 21"),
        ({"pictures": "mug/none.png"}, r"mug/none\.png: no such file or folder"),
        ({"pictures": ["mug/a.JPG", "other/a.JPG"]}, r"two pictures are named a\.JPG; rename one"),
        ({"pictures": 3}, "pictures=3, expected paths"),
        ({"name": "a/b"}, "name='a/b', expected letters"),
        ({"name": None}, "name=None, expected letters"),
        ({"kind": "thing"}, "kind='thing', expected object or style"),
        ({"token": "new1"}, "token='new1', expected one in angle brackets"),
        ({"initial": ""}, "no initial word"),
        ({"train_prompt": "a cup"}, r"the prompt 'a cup' has no \{token\}"),
        ({"prompts": ["{token}", "a cup"]}, r"the prompt 'a cup' has no \{token\}"),
        ({"picture": "mug"}, "unknown key 'picture', expected name, pictures"),
    ],
)
def test_what_cannot_be_a_concept_is_refused(pictures, row, message):
    (pictures / "empty").mkdir()
    put(pictures / "other" / "a.JPG")
    for number in range(MOST + 1):
        put(pictures / "many" / f"{number}.png")
    file = listed(pictures, {"name": "mug", "pictures": "mug"} | row)
    with pytest.raises(UsageError, match=message) as caught:
        read_concepts(settings(file))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{file}: entry 0")


def test_what_is_no_list_is_refused(pictures):
    (pictures / "bad.json").write_text("[1")
    (pictures / "dict.json").write_text("{}")
    (pictures / "none.json").write_text("[]")
    (pictures / "long.csv").write_text("name,pictures\nmug,mug,more\n")
    (pictures / "list.txt").write_text("mug")
    twice = [{"name": name, "pictures": "mug"} for name in ("mug", "Mug")]
    for path, message in [
        (None, r"customise\.concepts is empty; give a folder"),
        (pictures / "nowhere", "nowhere: no such file or folder"),
        (pictures / "bad.json", r"bad\.json: not valid JSON"),
        (pictures / "dict.json", r"dict\.json: expected a list of objects"),
        (pictures / "none.json", r"none\.json: holds no concept"),
        (pictures / "long.csv", r"long\.csv:2: more cells"),
        (pictures / "list.txt", r"list\.txt: expected a folder, \.json or \.csv"),
        (listed(pictures, *twice), r"two concepts are named 'mug'"),
    ]:
        with pytest.raises(UsageError, match=message):
            read_concepts(settings(path))
