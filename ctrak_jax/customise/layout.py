"""Where a concept's files stand, in AbC's own layout (:mod:`ctrak_jax.data.abc`).

    models-ti/<source>/<name>/              the token's vectors, and customise.json
    synth-ti/<source>/<images>/<name>/samples/<seed>.png
    exemplar/<source>/images/<name>/        the pictures, copied
    json/<case>.json                        one entry per concept
    all_tasks.json                          one task per generated picture

In the lists folders are called ``models`` and ``synth``, as in AbC's, where ``-ti`` marks the files
of textual inversion.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.customise.concepts import NewConcept
from ctrak_jax.errors import UsageError
from ctrak_jax.store.files import write_atomically

TASKS = "all_tasks.json"


class AbcCase(NamedTuple):
    """A list of AbC's, the folder of its files, and that of its images."""

    case: str
    source: str
    images: str


CASES = {
    "style": AbcCase("test_artchive", "artchive", "object"),
    "object": AbcCase("test_observed_imagenet", "imagenet", "media"),
}
"""The list that a kind of concepts stands in: the artists' styles, the objects of one picture."""


class ConceptFiles(NamedTuple):
    """The files of a concept below ``root``, and what the lists call them."""

    root: Path
    concept: NewConcept

    @property
    def case(self) -> AbcCase:
        return CASES[self.concept.kind]

    @property
    def model_name(self) -> str:
        """Of the folder with the token."""
        return f"models/{self.case.source}/{self.concept.name}"

    @property
    def embedding(self) -> Path:
        """The token's vectors."""
        return self.root / _inverted(self.model_name) / "learned_embeds.safetensors"

    @property
    def record(self) -> Path:
        """What the token was made from."""
        return self.embedding.with_name("customise.json")

    def picture_name(self, seed: int) -> str:
        """Of a generated picture."""
        return (
            f"synth/{self.case.source}/{self.case.images}/{self.concept.name}/samples/{seed:05d}"
            ".png"
        )

    def picture(self, seed: int) -> Path:
        """A generated picture."""
        return self.root / _inverted(self.picture_name(seed))

    @property
    def pictures_record(self) -> Path:
        """What the generated pictures were made from."""
        return self.picture(0).parent.with_name("customise.json")

    @property
    def exemplar_names(self) -> list[str]:
        """Of the exemplars."""
        place = f"exemplar/{self.case.source}/images/{self.concept.name}"
        return [f"{place}/{file.name}" for file in self.concept.pictures]

    def copy_exemplars(self, contents: Sequence[bytes]) -> None:
        """Put the concept's pictures into the folder."""
        for name, content in zip(self.exemplar_names, contents, strict=True):
            file = self.root / name
            if not file.is_file() or file.read_bytes() != content:
                write_atomically(file, content)


def _inverted(name: str) -> str:
    top, _, rest = name.partition("/")
    return f"{top}-ti/{rest}"


def refuse_others(root: Path) -> None:
    """Refuse a folder with AbC's own lists: they would be replaced.

    Raises:
        UsageError: there are lists, and no record that this command wrote them.
    """
    found = [f"json/{case.case}.json" for case in CASES.values()] + [TASKS]
    there = [name for name in found if (root / name).exists()]
    if there and not (root / "customise.json").exists():
        raise UsageError(
            f"{root / there[0]} was not written by `ctrak customise`, which would replace it; "
            "give another folder (data.path or --out)."
        )


def write_entries(root: Path, concepts: Sequence[NewConcept], seeds: Sequence[int]) -> None:
    """The lists of the concepts, each with its exemplars and its pictures of some seeds."""
    for kind, case in CASES.items():
        files = [ConceptFiles(root, concept) for concept in concepts if concept.kind == kind]
        entries = [
            {
                "exemplar": [f"dataset/{name}" for name in found.exemplar_names],
                "synth": {case.images: [f"dataset/{found.picture_name(n)}" for n in seeds]},
                "class_id": found.concept.name,
                "category": None if kind == "style" else found.concept.initial,
            }
            for found in files
        ]
        list_file = root / "json" / f"{case.case}.json"
        if entries:
            write_atomically(list_file, json.dumps(entries, indent=1) + "\n")
        else:
            list_file.unlink(missing_ok=True)


def write_tasks(
    root: Path, concepts: Sequence[NewConcept], seeds: Sequence[int], done: Iterable[NewConcept]
) -> None:
    """The questions: the pictures of the concepts that are ``done``."""
    places = {
        concept: number
        for kind in CASES
        for number, concept in enumerate(c for c in concepts if c.kind == kind)
    }
    tasks = [
        {
            "synth_image_path": files.picture_name(seed),
            "prompt": prompt_of(concept, number),
            "test_case": files.case.case,
            "test_case_ind": places[concept],
            "model_path": files.model_name,
            "train_prompt": concept.train_prompt,
            "category": "art" if concept.kind == "style" else concept.initial,
        }
        for concept in done
        for files in [ConceptFiles(root, concept)]
        for number, seed in enumerate(seeds)
    ]
    write_atomically(root / TASKS, json.dumps(tasks, indent=1) + "\n")


def prompt_of(concept: NewConcept, number: int) -> str:
    """The prompt of a concept's picture of some number."""
    return concept.prompts[number % len(concept.prompts)]
