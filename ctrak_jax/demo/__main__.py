"""``python -m ctrak_jax.demo DIR [FILE]``: keep the model that was trained in DIR.

FILE is the package's own where it is not given.
"""

import sys
from pathlib import Path

from ctrak_jax import demo, pipeline
from ctrak_jax.demo import weights
from ctrak_jax.run import model_file
from ctrak_jax.stages import train


def main(out: Path, file: Path = weights.FILE) -> None:
    """Write FILE from the run in ``out``."""
    prepared = pipeline.prepare(demo.config(), out)[0]
    made_from = train.training_of(prepared).made_from
    weights.write(prepared.load().params, made_from, file)
    found = model_file.about(prepared.folder.model)
    print(f"{file}: {file.stat().st_size:,} bytes, of parameters {found['sha256']}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
