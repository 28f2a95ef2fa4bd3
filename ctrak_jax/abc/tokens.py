"""The learned tokens of the customised models: a file in the folder of each.

``learned_embeds.safetensors`` or ``.bin``, a file named by the token, ``<new1>.bin`` or
``new1.bin``, or the folder's only file of embeddings. What is wrong with one is said before
anything is computed.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ctrak_jax.data.abc import Task
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings

TOKEN = re.compile(r"<[^<>\s]+>")
"""A customised token, such as <new1>."""
LEARNED = ("learned_embeds.safetensors", "learned_embeds.bin")
SUFFIXES = (".safetensors", ".bin", ".pt")
NETWORK = "pytorch_custom_diffusion_weights"
"""Custom Diffusion's file of changed K and V."""
WEIGHTS = re.compile(rf"{NETWORK}|pytorch_lora_weights|(diffusion_)?(pytorch_)?model|optimizer.*")
"""Stems of files that hold no embeddings."""


def tokens_of(*texts: str) -> list[str]:
    """The tokens of some texts, each once."""
    return list(dict.fromkeys(token for text in texts for token in TOKEN.findall(text)))


def learned_of(task: Task) -> Path | None:
    """The file of a task's token, where its model folder has one."""
    stems = [name for token in tokens_of(task.prompt) for name in (token, token.strip("<>"))]
    names = [*LEARNED, *(stem + suffix for stem in stems for suffix in SUFFIXES)]
    for name in names:
        if (task.model / name).is_file():
            return task.model / name
    others = [
        task.model / name
        for name in _files(task.model)
        if Path(name).suffix in SUFFIXES and not WEIGHTS.fullmatch(Path(name).stem)
    ]
    return others[0] if len(others) == 1 else None


def require_tokens(tasks: Sequence[Task], width: int, *, allow_missing: bool) -> None:
    """Every token of the tasks has vectors of the text encoder's width in its model's folder.

    Args:
        tasks: all of them.
        width: of a vector.
        allow_missing: a folder without a file is a warning.

    Raises:
        UsageError: a file is missing, damaged, or holds another token or other vectors.
    """
    missing: dict[Path, int] = {}
    known: dict[Path, dict[str, int]] = {}
    for number, task in enumerate(tasks):
        file = learned_of(task)
        if file is None:
            missing.setdefault(task.model, number)
            continue
        if file not in known:
            known[file] = {name: rows.shape[1] for name, rows in load_embeddings(file).items()}
        for token in tokens_of(task.prompt, task.train_prompt):
            if token not in known[file]:
                raise UsageError(
                    f"{file}: holds {', '.join(known[file])}, but the texts of task {number} have "
                    f"{token}; give that token's file."
                )
            if known[file][token] != width:
                raise UsageError(
                    f"{file}: the vectors of {token} are {known[file][token]} wide, the text "
                    f"encoder takes {width}; use an embedding trained for this model."
                )
    if missing:
        _say_missing(tasks, missing, allow_missing=allow_missing)
    changed = {task.model for task in tasks if any(task.model.glob(f"{NETWORK}.*"))}
    if changed:
        logger.warning(
            "%d customised models also change the network (%s): these weights are not read, so "
            "the questions are put to the network of model.checkpoint with the token alone",
            *(len(changed), NETWORK),
        )


def _say_missing(tasks: Sequence[Task], missing: dict[Path, int], *, allow_missing: bool) -> None:
    folder, number = next(iter(missing.items()))
    task = tasks[number]
    (token, *_) = tokens_of(task.prompt) or ["<new1>"]
    held = ", ".join(_files(folder)) or "nothing"
    what = f"it holds {held}" if folder.is_dir() else "no such folder"
    among = f"; {len(missing)} folders lack theirs" if len(missing) > 1 else ""
    message = (
        f"{folder}: no embedding of {token}, which task {number} has ({what}){among}; expected "
        f"{token}.bin, {token.strip('<>')}.bin or {LEARNED[0]}"
    )
    if not allow_missing:
        raise UsageError(
            f"{message}; add it, or pass --allow-missing-token to have the token read as the text "
            "encoder splits it."
        )
    logger.warning("%s; the token is read as the text encoder splits it", message)


def _files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*") if file.is_file())
