"""The files of the AbC benchmark in miniature."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ctrak_jax.data.abc import TASK_KEYS, TEST_CASES
from tests.data.samples import encoded, picture

COUNT = 5
EXEMPLARS = (1, 4, 13, 67)
"""How many exemplars the entry that a test case's tasks ask about has, by test case."""
CAPTIONS = ["a cat", "", "une f\u00eate\u2028in one line", "\u732b", "last"]


# A miniature of the layout


def stored(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def write_abc(
    root: Path, *, dtype: str = "float16", form: Literal["list", "lists"] = "list"
) -> Path:
    """Every file of the layout with the real shapes of rows: COUNT LAION pictures, two entries and
    two tasks a test case; the tasks ask about entry 1."""
    np_files = {
        "laion_latents.npy": stored((2 * COUNT, 4, 64, 64), dtype, 0),
        "laion_text_embeddings.npy": stored((COUNT, 77, 768), dtype, 1),
    }
    root.mkdir(parents=True)
    for name, array in np_files.items():
        np.save(root / name, array)
    for i in range(COUNT):  # written last to first: the order is that of the names
        put(root / "laion_subset" / "images" / f"{COUNT - 1 - i:09d}.png", COUNT - 1 - i)
    (root / "laion_subset" / "captions.txt").write_bytes("\n".join([*CAPTIONS, ""]).encode())
    tasks: list[dict[str, Any]] = []
    for case, count in zip(TEST_CASES, EXEMPLARS, strict=True):
        source = case.split("_")[-1]
        entries = []
        for number, exemplars in enumerate((2, count)):
            name = f"{case}-{number}"
            names = [f"exemplar/{source}/images/{name}/{i}.JPEG" for i in range(exemplars)]
            synth = {
                kind: [f"synth/{source}/{kind}/{name}/samples/{i:05d}.png" for i in range(2)]
                for kind in ("gpt", "object")
            }
            for file in (*names, *synth["gpt"], *synth["object"]):
                put(root / file, 7)
            entries.append(
                {
                    "exemplar": [f"dataset/{file}" for file in names],
                    "synth": {k: [f"dataset/{file}" for file in v] for k, v in synth.items()},
                    "class_id": name,
                    "category": None,
                }
            )
        dump(root / "json" / f"{case}.json", entries)
        tasks += [
            {
                "synth_image_path": f"synth/{source}/{kind}/{case}-1/samples/00001.png",
                "prompt": f"{kind} in the style of <new1> art",
                "test_case": case,
                "test_case_ind": 1,
                "model_path": f"models/{source}/{case}-1",
                "train_prompt": "A picture in the style of <new1> art",
                "category": "art" if source in ("artchive", "bamfg") else "fish",
            }
            for kind in ("gpt", "object")
        ]
    lists = {key: [task[key] for task in tasks] for key in TASK_KEYS}
    dump(root / "all_tasks.json", tasks if form == "list" else lists)
    return root


def put(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(picture(number)))


def dump(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def edit(file: Path, change) -> None:
    """Let ``change`` work on the JSON of a file."""
    value = json.loads(file.read_text())
    change(value)
    dump(file, value)
