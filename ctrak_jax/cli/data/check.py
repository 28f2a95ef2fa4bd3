"""``ctrak data check``: every picture, row and caption looked at once."""

import argparse
import json
import time
from collections.abc import Callable

from ctrak_jax.cli import arguments
from ctrak_jax.errors import StoreError
from ctrak_jax.log import logger
from ctrak_jax.progress import words
from ctrak_jax.progress.board import QUIET_SECONDS
from ctrak_jax.progress.pieces import Pieces

FAULTS = "faults.csv"


def declare(parser: argparse.ArgumentParser) -> None:
    """A config with its settings, and ``--json``."""
    arguments.declare_config(parser)
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Inspect the data set and print what was found.

    Raises:
        StoreError: the data set has faults.
        UsageError: a caption is no class of a model of classes.
    """
    config, out = arguments.load(args)
    from ctrak_jax.data.faults import ADVICE, write_faults
    from ctrak_jax.data.inspection import inspect
    from ctrak_jax.data.looking import RECORD, Record
    from ctrak_jax.terminal import inspection

    found = inspect(config.data, record=Record(out / RECORD), begin=_progress)
    write_faults(out / FAULTS, found.faults)
    cut, model, remarks = None, None, []
    if config.model.kind == "text-to-image":
        remarks += map(str, found.unfound)
    if config.model.kind == "text-to-image" and config.model.checkpoint and found.captions:
        from ctrak_jax.inputs.captions import cut_captions
        from ctrak_jax.models.architecture import model_files_of

        model = model_files_of(config.model, out / "model")
        cut = cut_captions(model, found.captions)
    if args.json:
        said = None if cut is None else cut._asdict()
        print(json.dumps({**inspection.as_json(found), "cut_captions": said}))
    else:
        print(inspection.text(found, [*remarks, *([] if cut is None else [str(cut)])]))
    if found.faults:
        count = len(found.faults)
        kinds = dict.fromkeys(fault.kind for fault in found.faults)
        advice = "; ".join(f"{kind}: {ADVICE[kind]}" for kind in kinds)
        raise StoreError(
            f"{count:,} {'faults' if count > 1 else 'fault'}, listed in {out / FAULTS}; {advice}."
        )
    if model is not None:
        from ctrak_jax.inputs.captions import require_classes

        require_classes(model, found.captions)


def _progress(total: int) -> Callable[[int], None]:
    """A line now and then. A bar would have a thread, and the pictures want forked processes."""
    pieces, said = None, time.monotonic()

    def advance(count: int) -> None:
        nonlocal pieces, said
        if pieces is None:  # what an earlier look has recorded took no time now
            pieces = Pieces(total, count)
            return
        pieces.advance(count)
        if time.monotonic() - said > QUIET_SECONDS and pieces.rate:
            said = time.monotonic()
            speed, left = words.rate(pieces.rate), words.left(pieces.left)
            logger.info("%d/%d pictures decoded, %s, %s", pieces.done, total, speed, left)

    return advance
