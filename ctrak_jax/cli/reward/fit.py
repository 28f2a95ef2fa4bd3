"""``ctrak reward fit``: a classifier of a concept that two folders of pictures show."""

import argparse
import json
from pathlib import Path
from typing import Any

from ctrak_jax.cli import arguments
from ctrak_jax.errors import UsageError

SIDES = (8, 256)
"""The least and the largest side of a classifier's pictures."""


def declare(parser: argparse.ArgumentParser) -> None:
    """The two folders, the file, and how it is fitted."""
    add = parser.add_argument
    add("--positive", type=Path, metavar="DIR", required=True, help="pictures that show it")
    add("--negative", type=Path, metavar="DIR", required=True, help="pictures that do not")
    add("--out", type=Path, metavar="FILE", required=True, help="the classifier: FILE.safetensors")
    add("--name", help="what it is called: words, or ATTRIBUTE=VALUE of a run [that of --positive]")
    add("--size", type=int, help="side in pixels of the pictures that it takes [32]")
    add("--steps", type=int, help="steps of the fit [400, or 8 rounds of the pictures]")
    add("--seed", type=int, default=0, help="of its parameters and of what is held out [0]")
    arguments.declare_json(parser)


def act(args: argparse.Namespace) -> None:
    """Fit, keep, and print what it does on pictures held out."""
    _check(args)
    from ctrak_jax.log import meter
    from ctrak_jax.rewards.classifier import examples, file
    from ctrak_jax.rewards.classifier.fitting import FitSettings, fit, steps_for
    from ctrak_jax.rewards.classifier.network import DEFAULT_SIDE, AttributeHead, Classifier

    side = args.size or DEFAULT_SIDE
    name = args.name or args.positive.resolve().name
    found, folders = examples.of_folders(args.positive, args.negative, side)
    settings = FitSettings(args.steps or steps_for(len(found.values)), seed=args.seed)
    classifier = Classifier((AttributeHead(name, examples.VALUES),), side)
    with meter("classifier", settings.steps) as bar:
        fitted = fit(classifier, found, settings, bar.advance)
    counts = {str(one.folder): len(one.images) for one in folders}
    made_from = {
        "folders": counts,
        "pictures": [sorted(one.files) for one in folders],
        "fit": settings._asdict(),
    }
    file.write(args.out, fitted, made_from)
    summary = file.held_out_summary(fitted)
    if args.json:
        print(json.dumps({"file": str(args.out), "name": name, "pictures": counts, **summary}))
    else:
        print(_text(args.out, name, folders, summary))


def _check(args: argparse.Namespace) -> None:
    if args.out.suffix != ".safetensors":
        raise UsageError(f"--out {args.out}: expected a file that ends in .safetensors.")
    if args.size is not None and not SIDES[0] <= args.size <= SIDES[1]:
        raise UsageError(f"--size {args.size}: expected {SIDES[0]} to {SIDES[1]} pixels.")
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps {args.steps}: expected 1 or more.")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: expected 0 or more.")
    if not args.out.resolve().parent.is_dir():
        raise UsageError(f"--out {args.out}: no such folder; make it first.")


def _text(out: Path, name: str, folders: list[Any], summary: dict[str, Any]) -> str:
    from ctrak_jax.rewards.classifier import examples

    lines = []
    for one in reversed(folders):
        repeated = f", {one.repeated} repeated ones left out" if one.repeated else ""
        lines.append(f"{one.folder}: {len(one.images)} pictures{repeated}")
    (yes, yeses), (no, noes) = (
        summary["right"][f"{name}={value}"] for value in reversed(examples.VALUES)
    )
    lines += [
        f"held out: {yes} of {yeses} that show it and {no} of {noes} that do not are classified "
        f"correctly, accuracy {summary['accuracy'][name]:.2f}; blurred and with noise "
        f"{summary['degraded'][name]:.2f}",
        f"{out}: ask with --reward classifier:{out}",
    ]
    return "\n".join(lines)
