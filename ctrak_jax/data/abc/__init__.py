"""AbC (attribution by customisation) as its files are distributed.

json/test_<case>.json      the truth, one entry per customised model: {"exemplar": [paths], "synth":
                           {kind: [paths]}, "class_id": ..., "category": ...}; see ``TEST_CASES``
exemplar/, synth/          the exemplars' pictures, and those that the customised models generated
models/                    the customised models, a folder each
synth-ti/, models-ti/      the same of models customised by textual inversion alone
laion_subset/images/       pictures; their order is that of their names
laion_subset/captions.txt  a line per picture
laion_latents.npy          float16 or float32 [2N, 4, 64, 64]: N latents, then those of the flipped
laion_text_embeddings.npy  float16 or float32 [N, 77, 768]
all_tasks.json             the questions, with the keys ``TASK_KEYS``: a list of objects, or an
                           object of lists of one length; both are read

Paths in json/ start with ``dataset/``, which stands for the folder itself. The arrays may be raw
numbers without the header of .npy files. Opening the set reads the JSON files and counts LAION's
pictures and captions; arrays are mapped. Sources: Wang et al. 2023 (the benchmark) and 2024
(latents, embeddings and tasks).
"""

from dataclasses import dataclass
from pathlib import Path

from ctrak_jax.data.abc.laion import (
    EMBEDDINGS,
    LATENT,
    LATENTS,
    TEXT,
    ChannelsLast,
    Laion,
    read_laion,
)
from ctrak_jax.data.abc.tasks import TASK_KEYS, TEST_CASES, Customised, Task, read_tasks
from ctrak_jax.errors import UsageError

__all__ = [
    "EMBEDDINGS",
    "LATENT",
    "LATENTS",
    "TASK_KEYS",
    "TEST_CASES",
    "TEXT",
    "Abc",
    "ChannelsLast",
    "Customised",
    "Laion",
    "Task",
    "read_abc",
]


@dataclass(frozen=True, kw_only=True)
class Abc:
    """The benchmark. The candidates of a task are its exemplars, then the rows of ``laion``."""

    tasks: tuple[Task, ...]
    laion: Laion


def read_abc(
    path: Path,
    *,
    tasks: Path | None = None,
    customised: Customised = "auto",
    latent: tuple[int, ...] = LATENT,
    text: tuple[int, ...] = TEXT,
) -> Abc:
    """Open the benchmark.

    Args:
        path: the folder.
        tasks: another list of questions than ``path/all_tasks.json``.
        customised: ``listed`` takes models and images where the tasks say, ``ti`` in models-ti and
            synth-ti instead, ``auto`` there where both folders are.
        latent: shape of a latent on disk, where it is not that of the released files.
        text: shape of a text embedding, likewise.

    Raises:
        UsageError: a file is missing, damaged or of another shape, type or count, or a task does
            not fit the entry that it names. The message is one line and names the file.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give the folder that holds the AbC files.")
    questions = read_tasks(path, tasks or path / "all_tasks.json", customised)
    return Abc(tasks=questions, laion=read_laion(path, latent, text))
