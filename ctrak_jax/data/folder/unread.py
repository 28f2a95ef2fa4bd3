"""Files of a data set that no source reads.

A label in a file of an unknown name would be lost without a word. So every run says how many files
are not read, and ``ctrak data check`` lists them, but for what holds no labels: texts about the
data set, configs, programs, and what commands of this package write.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from ctrak_jax.data.faults import Fault
from ctrak_jax.log import logger

ABOUT = frozenset(
    (
        *("readme", "license", "licence", "copying", "notice", "notes", "info", "classes", "meta"),
        *("authors", "changelog", "citation", "contributing", "requirements", "makefile"),
        *("dataset_info", "dataset_infos", "dockerfile"),
    )
)
"""Names without their suffix, where it is none of a table."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
NO_LABELS = (
    *(".md", ".rst", ".pdf", ".htm", ".html", ".bib", ".yaml", ".yml", ".toml", ".cfg", ".ini"),
    *(".py", ".pyc", ".ipynb", ".sh", ".bat", ".lock", ".log", ".part", ".tmp"),
)
WRITTEN = ("skipped.csv", "faults.csv", "log.jsonl", "pictures.jsonl")


def unread(files: Iterable[Any]) -> list[Fault]:
    """Faults for the files that may hold labels or pictures, which the log counts.

    Args:
        files: those that no source reads, paths or members of tars.
    """
    found = [str(file) for file in files if not _holds_none(str(file))]
    if found:
        said = "file is" if len(found) == 1 else "files are"
        logger.warning("%d %s not read, the first: %s", len(found), said, found[0])
    return [Fault(name, "is not read", "unread") for name in found]


def _holds_none(name: str) -> bool:
    path = PurePosixPath(name.casefold().replace("\\", "/"))
    about = path.stem in ABOUT or path.stem.endswith("_stats")
    return (
        path.name in WRITTEN
        or path.suffix in NO_LABELS
        or (about and path.suffix not in TABLE_SUFFIXES)
    )
