"""``ctrak abc import``: released features of LAION's rows."""

import argparse
from pathlib import Path

from ctrak_jax.cli import arguments


def declare(parser: argparse.ArgumentParser) -> None:
    """The folder of the features, the config of the run, and the coordinates."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder of train_grad-0.npy, -1.npy, ..."
    )
    arguments.declare_config(parser)
    parser.add_argument(
        "--coordinates",
        type=Path,
        required=True,
        metavar="FILE",
        help="the coordinates that the features have: .npy, or .npz of several sets, of which the "
        "right one is found",
    )


def act(args: argparse.Namespace) -> None:
    """Check the coordinates, write the store, and say what it is."""
    config, out = arguments.load(args)
    from ctrak_jax.abc.importing import import_features
    from ctrak_jax.abc.prepared import prepare
    from ctrak_jax.cli import compilation_cache
    from ctrak_jax.store.files import require_writable

    require_writable(out)
    compilation_cache.switch_on(config.run.compilation_cache)
    bench = prepare(config, out)
    bench.leave_model()
    about = import_features(bench, args.folder, args.coordinates).about
    name, found = about["coordinates"]["name"], about["correlation"]
    print(f"{len(bench.rows)} rows of {args.folder} imported into {out}.")
    print(f"Coordinates {name}: correlation with rows made here {found[name]:.3f}.")
