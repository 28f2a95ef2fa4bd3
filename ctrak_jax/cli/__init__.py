"""The command line: ctrak COMMAND CONFIG [--out DIR] [--section.field VALUE ...].

Each command is a module of this package, imported when it is called: ``declare(parser)`` adds its
arguments, ``act(args)`` does the work and imports what that takes, so that help and errors in the
arguments come before JAX is loaded. It may return an exit status.
"""

import argparse
import difflib
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from ctrak_jax.errors import HostError, OutOfTime, StoreError, UsageError

DESCRIPTION = "Concept-level data attribution: which training images taught a model this concept?"


COMMANDS = {
    "demo": "a first answer within two minutes: what taught the red in this red triangle?",
    "init": "look at a folder of images and write a config for it",
    "run": "every stage in order, each skipped where its result is there",
    "train": "train the model",
    "encode": "images to latents and captions to text embeddings (text-to-image)",
    "featurize": "per-sample gradient features of the training images",
    "query": "generate images, ask about their concepts, featurize the questions",
    "score": "score every training image for every question",
    "evaluate": "precision@k with intervals, damping curves, controls: metrics.json",
    "report": "the page and the pictures",
    "tune": "train a LoRA on a folder of images with captions (text-to-image)",
    "customise": "teach a text-to-image model concepts as new tokens, in the layout of AbC",
    "attribute": "one question to an existing feature store",
    "explain": "where the scores of one answer come from: maps, noise levels, layers",
    "groups": "influence of an artist's, a licence's, a source's images together: groups.json",
    "reward fit": "a classifier of what two folders of pictures show, to ask with",
    "counterfactual": "retrain without the top samples: is the concept lost? counterfactual.json",
    "lds": "retrain on random halves: do scores predict the models? lds.json",
    "abc": "the AbC benchmark: exemplars among LAION images, recall and mAP: abc.json",
    "abc import": "released features of LAION's rows as a run's own, checked by a few made here",
    "config": "print the full resolved config",
    "data": "write a config's data set in the folder format; `data check`, `data avatars`",
    "data check": "look at every picture, row and caption of a data set once: a table of faults",
    "data avatars": "draw the avatar benchmark: six styles, six attributes",
    "info": "what a run or store holds; verifies its features",
    "status": "what a run in another terminal is doing",
    "doctor": "versions, devices, optional parts, and a self-test with numbers",
    "plan": "memory, time and store size of featurize on a TPU topology, without a TPU",
    "bench": "throughput of the hot parts on this machine",
    "bench accelerator": "numbers and throughput of the accelerator, in minutes",
}
"""Command -> its line of help."""
STAGES = ("run", "train", "encode", "featurize", "query", "score", "evaluate", "report")
FOLDERS = {
    **dict.fromkeys(("attribute", "explain", "groups"), "ask"),
    **dict.fromkeys(("counterfactual", "lds"), "retrain"),
}
"""The folder of a command's module, where it is in one."""


def module_of(command: str) -> Any:
    """The module that declares and carries out a command."""
    name = "stages" if command in STAGES else command.replace(" ", ".")
    folder = [FOLDERS[name]] if name in FOLDERS else []
    return importlib.import_module(".".join([__name__, *folder, name]))


class _Version(argparse.Action):
    """Prints the version, which takes reading the installed metadata."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"ctrak {version('ctrak-jax')}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def refuse(self, unknown: str) -> Any:
        near = difflib.get_close_matches(unknown.partition("=")[0], self._option_string_actions, 1)
        advice = f"; did you mean {near[0]}? See" if near and unknown.startswith("-") else "; see"
        raise UsageError(f"unknown argument {unknown!r}{advice} {self.prog} --help.")

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see {self.prog} --help.")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """A command line as values; only the command that is called declares its arguments.

    Raises:
        UsageError: an unknown command or argument, or a value of the wrong type.
    """
    two = " ".join(argv[:2])
    words = [two, *argv[2:]] if two in COMMANDS else list(argv)
    called = next((word for word in words if not word.startswith("-")), None)
    root = _Parser(prog="ctrak", description=DESCRIPTION, allow_abbrev=False)
    root.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == called:
            module_of(name).declare(sub)
    args, unknown = root.parse_known_args(words)
    if unknown:
        commands.choices[args.command].refuse(unknown[0])
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage or config, 75 out of time, 130 interrupted, 1 anything
    else."""
    try:
        return _main(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return _ended(2, error)
    except (StoreError, HostError, OSError) as error:
        return _ended(1, error)
    except OutOfTime as error:
        return _ended(75, error)
    except KeyboardInterrupt:
        return _ended(130, "interrupted; finished work is kept, the same command resumes it.")
    except BaseException as error:
        if hosts := _joined():
            traceback.print_exc()
            hosts.leave(1, repr(error))
        raise


def _main(argv: Sequence[str]) -> int:
    args = parse(argv)
    from ctrak_jax import log

    log.set_up()
    status = module_of(args.command).act(args) or 0
    if hosts := _joined():
        hosts.finish()
    return status


def _ended(status: int, reason: object) -> int:
    print(f"ctrak: {reason}", file=sys.stderr)
    if hosts := _joined():
        hosts.leave(status, str(reason))
    return status


def _joined() -> Any:
    """The module ``hosts`` where other processes take part: without it none was joined."""
    hosts = sys.modules.get("ctrak_jax.hosts")
    return hosts if hosts is not None and hosts.joined() else None
