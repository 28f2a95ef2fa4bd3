"""Arguments that several commands share, and the config that a command line stands for."""

import argparse
from pathlib import Path
from typing import NamedTuple

from ctrak_jax import config as cfg
from ctrak_jax.errors import UsageError


class Target(NamedTuple):
    """The config of a command line, and the folder of its results."""

    config: cfg.Config
    out: Path


def declare_settings(parser: argparse.ArgumentParser) -> None:
    """CONFIG, and every setting as ``--section.field``."""
    parser.add_argument(
        "config", type=Path, metavar="CONFIG", help="YAML file, or the folder of an earlier run"
    )
    group = parser.add_argument_group("settings (defaults in brackets)")
    for dotted, field in cfg.fields().items():
        if dotted == "out":  # declared with help of its own, and read as a path
            continue
        default = "" if field.default is None else field.default
        shown = list(default) if isinstance(default, tuple) else default
        text = f"{field.description or ''} [{shown}]".replace("%", "%%")
        group.add_argument(f"--{dotted}", metavar="VALUE", help=text, default=argparse.SUPPRESS)
    for old in cfg.RENAMED:  # refused where the config is read, by one line with the new name
        group.add_argument(f"--{old}", help=argparse.SUPPRESS, default=argparse.SUPPRESS)


def declare_config(parser: argparse.ArgumentParser) -> None:
    """CONFIG, its settings, and ``--out``."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go")
    declare_settings(parser)


def declare_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def declare_minutes(parser: argparse.ArgumentParser) -> None:
    """``--minutes``."""
    parser.add_argument(
        "--minutes",
        type=positive,
        metavar="N",
        default=float("inf"),
        help="end after so many minutes, when the piece being worked on is saved, with status 75; "
        "the same command resumes there [no limit]",
    )


def declare_processes(parser: argparse.ArgumentParser) -> None:
    """How several processes find each other."""
    group = parser.add_argument_group(
        "several processes (the same command in each; docs/howto/scaling.md)"
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="join the processes of the cluster (TPU pod, Slurm, MPI, Kubernetes)",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="or: where the first one listens")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")
    group.add_argument(
        "--join-timeout",
        type=positive,
        metavar="S",
        default=300.0,
        help="seconds to wait until all have come [300]",
    )
    group.add_argument(
        "--barrier-timeout",
        type=positive,
        metavar="S",
        default=3600.0,
        help="seconds without a sign of progress from a process that others wait for [3600]",
    )


def positive(text: str) -> float:
    """A number above 0, and finite."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def join(args: argparse.Namespace) -> None:
    """Join the other processes, if the command line names any."""
    from ctrak_jax import hosts, meeting
    from ctrak_jax.meeting import cluster

    given = args.coordinator, args.processes, args.process
    if args.distributed or given != (None, None, None):
        hosts.join(*given, meeting.Limits(args.join_timeout, args.barrier_timeout))
    else:
        cluster.warn_of_tasks()


def load(args: argparse.Namespace) -> Target:
    """The config of a command line, and ``--out``, the run's folder, or what the config says."""
    config = load_config(args)
    path: Path = args.config
    default = path if path.is_dir() else config.out or Path("runs") / path.stem
    out = args.out or default
    _require_apart(out, config.data.path)
    return Target(config, out)


def _require_apart(out: Path, data: Path | None) -> None:
    """Refuse results among the pictures: the next command would take them for data."""
    if data is not None and out.resolve() in (data.resolve(), (data / "images").resolve()):
        raise UsageError(
            f"--out {out}: is the folder of the data (data.path={data}), and results there would "
            f"be read as data; give another folder, such as runs/{data.resolve().name}."
        )


def load_config(args: argparse.Namespace) -> cfg.Config:
    """The config of a command line.

    Raises:
        UsageError: as :func:`ctrak_jax.config.load`.
    """
    known = {*cfg.fields(), *cfg.RENAMED} - {"out"}
    overrides = {name: value for name, value in vars(args).items() if name in known}
    path: Path = args.config
    return cfg.load(path / "config.yaml" if path.is_dir() else path, overrides)
