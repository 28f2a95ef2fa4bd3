"""The command line: ctrak COMMAND CONFIG [--out DIR] [--section.field VALUE ...]."""

import argparse
import json
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrak_jax import abc, bench, hosts, log, pipeline
from ctrak_jax import config as cfg
from ctrak_jax.data import build, draw_avatars, write_folder
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.plan import report as plan
from ctrak_jax.report import write_answer
from ctrak_jax.stages import attribute, counterfactual, info
from ctrak_jax.stages.context import Context
from ctrak_jax.terminal import summary

HELP = {
    "run": "every stage in order, each skipped where its result is there",
    "train": "train the model",
    "encode": "images to latents and captions to text embeddings (text-to-image)",
    "featurize": "per-sample gradient features of the training images",
    "query": "generate images, ask about their concepts, featurize the questions",
    "score": "score every training image for every question",
    "evaluate": "precision@k with intervals, damping curves, controls: metrics.json",
    "report": "the page and the pictures",
}


@dataclass(frozen=True)
class Command:
    """A subcommand: how its arguments are declared and what it does."""

    declare: Callable[[argparse.ArgumentParser], None]
    act: Callable[[argparse.Namespace], None]
    help: str


def _declare_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go")
    _declare_settings(parser)


def _declare_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, metavar="CONFIG", help="YAML file, or the folder of an earlier run"
    )
    group = parser.add_argument_group("settings (defaults in brackets)")
    fields: list[tuple[str, Any]] = [
        (f, i) for f, i in cfg.Config.model_fields.items() if f not in cfg.sections() and f != "out"
    ]
    for section, model in cfg.sections().items():
        fields += [(f"{section}.{f}", i) for f, i in model.model_fields.items()]
    for dotted, field in fields:
        default = "" if field.default is None else field.default
        shown = list(default) if isinstance(default, tuple) else default
        text = f"{field.description or ''} [{shown}]".replace("%", "%%")
        group.add_argument(f"--{dotted}", metavar="VALUE", help=text, default=argparse.SUPPRESS)


def load(args: argparse.Namespace) -> tuple[cfg.Config, Path]:
    """The config of a command line and the folder of its results."""
    config = load_config(args)
    path: Path = args.config
    if path.is_dir():
        return config, args.out or path
    return config, args.out or config.out or Path("runs") / path.stem


def load_config(args: argparse.Namespace) -> cfg.Config:
    """The config of a command line."""
    known = {*cfg.Config.model_fields, *cfg.sections()}
    overrides = {
        name: value
        for name, value in vars(args).items()
        if name.split(".")[0] in known and name != "out"
    }
    path: Path = args.config
    return cfg.load(path / "config.yaml" if path.is_dir() else path, overrides)


def _stage(name: str) -> Callable[[argparse.Namespace], None]:
    def act(args: argparse.Namespace) -> None:
        config, out = load(args)
        _join(args)
        pipeline.run(config, out, tuple(pipeline.STAGES) if name == "run" else (name,))
        if not hosts.is_first():
            return
        if name in ("run", "evaluate"):
            print(json.dumps(summary.read(out)) if args.json else summary.table(out))
        elif args.json:
            print(json.dumps(log.records()))

    return act


def _join(args: argparse.Namespace) -> None:
    """Join the other processes, if the command line names any."""
    where = hosts.Hosts(args.coordinator, args.processes, args.process)
    if args.distributed or where != hosts.Hosts():
        hosts.join(where)


def _declare_stage(parser: argparse.ArgumentParser) -> None:
    _declare_config(parser)
    group = parser.add_argument_group("several processes (the same command in each; docs/)")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="join the processes of the cluster (TPU pod, Slurm, MPI, Kubernetes)",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="or: where the first one listens")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _abc(args: argparse.Namespace) -> None:
    config, out = load(args)
    _join(args)
    abc.run(config, out)
    if hosts.is_first():
        print((out / ("abc.json" if args.json else "abc.md")).read_text(), end="")


def _config(args: argparse.Namespace) -> None:
    print(cfg.dump(load(args)[0]), end="")


def _declare_counterfactual(parser: argparse.ArgumentParser) -> None:
    _declare_config(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _counterfactual(args: argparse.Namespace) -> None:
    config, out = load(args)
    found = counterfactual.run(out, pipeline.prepare(config, out))
    print(json.dumps(found, indent=1) if args.json else counterfactual.text(found))


def _declare_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="a run, or one feature store, also by its URL")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _info(args: argparse.Namespace) -> None:
    found = info.describe(args.dir)
    print(json.dumps(found, indent=1) if args.json else info.text(found))


def _declare_attribute(parser: argparse.ArgumentParser) -> None:
    _declare_config(parser)
    parser.add_argument("--image", type=Path, help="the image asked about")
    parser.add_argument("--condition", help="its condition, e.g. shape=triangle,color=red")
    parser.add_argument("--concept", help="the attribute asked about, e.g. color")
    group = parser.add_argument_group("text-to-image: in place of --condition and --concept")
    group.add_argument("--prompt", help='e.g. "Pikachu in the style of Pablo Picasso"')
    group.add_argument(
        "--concepts", nargs="+", metavar="WORDS", help='words of it: "Pikachu" "Pablo Picasso"'
    )
    group.add_argument(
        "--minus",
        nargs="+",
        default=(),
        metavar="PROMPT",
        help="the prompt without each concept [the words left out]",
    )
    group.add_argument("--scope", choices=("local", "global"), help="one image, or all [local]")
    group.add_argument(
        "--image-seed", type=int, help="where no --image is given, generate this one [0]"
    )
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw the answer there")
    parser.add_argument("--method", default="concept-trak", help="[concept-trak]")
    parser.add_argument("--top", type=int, default=10, help="how many training images [10]")
    parser.add_argument("--seed", type=int, help="training seed of the model [the first]")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _attribute(args: argparse.Namespace) -> None:
    config, out = load(args)
    contexts = {ctx.seed: ctx for ctx in pipeline.prepare(config, out)}
    seed = config.run.seeds[0] if args.seed is None else args.seed
    if seed not in contexts:
        raise UsageError(f"--seed {seed} is none of the run's seeds {list(contexts)}.")
    if args.prompt is not None:
        answer = _by_prompt(args, contexts[seed])
    else:
        for flag in ("concepts", "minus", "scope", "image-seed", "picture"):
            if getattr(args, flag.replace("-", "_")) not in (None, ()):
                raise UsageError(f"--{flag} goes with --prompt; give one, or leave it out.")
        if None in (args.image, args.condition, args.concept):
            raise UsageError(
                "attribute needs --image, --condition and --concept, or --prompt and --concepts."
            )
        answer = attribute.ask(
            contexts[seed],
            image=args.image,
            condition=args.condition,
            concept=args.concept,
            method=args.method,
            top=args.top,
        )
    print(json.dumps(answer, indent=1) if args.json else attribute.text(answer))


def _by_prompt(args: argparse.Namespace, ctx: Context) -> dict[str, Any]:
    if not args.concepts or args.condition is not None or args.concept is not None:
        raise UsageError("--prompt goes with --concepts, in place of --condition and --concept.")
    if args.image is not None and (args.image_seed is not None or args.scope == "global"):
        raise UsageError(
            "--image goes with neither --image-seed nor --scope global, which ask about what the "
            "model makes; leave it or them out."
        )
    answer, picture = attribute.ask_prompt(
        ctx,
        prompt=args.prompt,
        concepts=args.concepts,
        minus=args.minus,
        image=args.image,
        image_seed=args.image_seed or 0,
        scope=args.scope or "local",
        method=args.method,
        top=args.top,
    )
    if args.picture is not None:
        rows = {c["concept"]: [row["index"] for row in c["top"]] for c in answer["concepts"]}
        images = ctx.dataset.raw.images
        tops = {concept: [images[i] for i in found] for concept, found in rows.items()}
        write_answer(args.picture, picture, args.prompt, tops)
    return answer


def _declare_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(bench.BENCHES), help="what is timed")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="also write the result as JSON; without a FILE, print it in place of the table",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write it as JSON, Markdown and a bar chart"
    )
    parser.add_argument("--batch", type=int, default=32, help="samples a call [32]")
    parser.add_argument("--k", type=int, default=4096, help="length of a feature [4096]")
    parser.add_argument(
        "--rows", type=int, default=100_000, help="features on disk (scoring) [100000]"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed calls [5]")


def _bench(args: argparse.Namespace) -> None:
    for flag, value in (
        ("--batch", args.batch),
        ("--rows", args.rows),
        ("--repeats", args.repeats),
    ):
        if value < 1:
            raise UsageError(f"{flag} {value} must be at least 1.")
    if args.k < 32 or args.k % 32:
        raise UsageError(f"--k {args.k} must be a multiple of 32.")
    if args.json not in (None, "-") and not Path(args.json).parent.is_dir():
        raise UsageError(f"--json {args.json}: no such folder; make it first.")
    result = bench.run(args.what, bench.Sizes(args.batch, args.k, args.rows, args.repeats))
    if args.json not in (None, "-"):
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    if args.out is not None:
        bench.write(result, args.out)
    print(json.dumps(result, indent=1) if args.json == "-" else bench.table(result))


def _declare_plan(parser: argparse.ArgumentParser) -> None:
    _declare_settings(parser)
    parser.add_argument("--topology", required=True, metavar="NAME", help=f"e.g. {plan.EXAMPLES}")
    parser.add_argument(
        "--samples", type=float, default=1e6, help="training samples to featurize [1e6]"
    )
    parser.add_argument(
        "--batch", type=int, help="samples a chip at a time [gradient.batch over all chips]"
    )
    parser.add_argument(
        "--only", action="store_true", help="no search for the largest batch: one compilation"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _plan(args: argparse.Namespace) -> None:
    if not math.isfinite(args.samples) or args.samples < 1 or args.samples % 1:
        raise UsageError(f"--samples {args.samples:g} must be a whole number of at least 1.")
    if args.batch is not None and args.batch < 1:
        raise UsageError(f"--batch {args.batch} must be at least 1.")
    found = plan.run(
        load_config(args),
        args.topology,
        samples=int(args.samples),
        batch=args.batch,
        only=args.only,
    )
    print(json.dumps(found, indent=1) if args.json else plan.text(found), end="\n" * args.json)


def _declare_data(parser: argparse.ArgumentParser) -> None:
    _declare_config(parser)


def _data(args: argparse.Namespace) -> None:
    config, _ = load(args)
    if args.out is None:
        raise UsageError("--out is missing; give the folder to write the images to.")
    write_folder(build(config.data).raw, args.out)
    print(args.out)


def _declare_avatars(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the folder")
    parser.add_argument("--size", type=int, default=32, help="side in pixels [32]")
    parser.add_argument(
        "--per-combination", type=int, default=8, help="pictures of each of 1,440 combinations [8]"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures [0]")


def _avatars(args: argparse.Namespace) -> None:
    draw_avatars(args.out, size=args.size, per_combination=args.per_combination, seed=args.seed)
    print(args.out)


COMMANDS = {
    **{name: Command(_declare_stage, _stage(name), text) for name, text in HELP.items()},
    "attribute": Command(
        _declare_attribute, _attribute, "one question to an existing feature store"
    ),
    "counterfactual": Command(
        _declare_counterfactual,
        _counterfactual,
        "retrain without the top samples: is the concept lost? counterfactual.json",
    ),
    "abc": Command(
        _declare_stage, _abc, "the AbC benchmark: exemplars among LAION, recall and mAP: abc.json"
    ),
    "config": Command(_declare_config, _config, "print the full resolved config"),
    "data": Command(
        _declare_data,
        _data,
        "write a config's data set in the folder format; `data avatars` draws portraits",
    ),
    "data avatars": Command(
        _declare_avatars, _avatars, "draw the avatar benchmark: six styles, six attributes"
    ),
    "info": Command(_declare_info, _info, "what a run or store holds; verifies its features"),
    "plan": Command(
        _declare_plan, _plan, "memory, time and store of featurize on TPUs that are not here"
    ),
    "bench": Command(_declare_bench, _bench, "throughput of the hot parts on this machine"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see {self.prog} --help.")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = _Parser(prog="ctrak", description=__doc__, allow_abbrev=False)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.help, description=command.help, allow_abbrev=False
        )
        command.declare(sub)
    return root


def _joined(argv: Sequence[str]) -> list[str]:
    """The arguments with a command of two words as one."""
    two = " ".join(argv[:2])
    return [two, *argv[2:]] if two in COMMANDS else list(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage or config, 1 anything else, 130 interrupted."""
    log.set_up()
    try:
        status = _main(argv)
    except BaseException:
        if hosts.joined():
            traceback.print_exc()
            hosts.leave(1)
        raise
    if status and hosts.joined():
        hosts.leave(status)
    return status


def _main(argv: Sequence[str] | None) -> int:
    try:
        args = parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
        COMMANDS[args.command].act(args)
    except UsageError as error:
        print(f"ctrak: {error}", file=sys.stderr)
        return 2
    except (StoreError, OSError) as error:
        print(f"ctrak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "ctrak: interrupted; finished work is kept, the same command goes on.", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
