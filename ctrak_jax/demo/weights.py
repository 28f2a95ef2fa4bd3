"""The demo's model in the package: float16 parameters by their paths, and what they were made from.

A parameter is what float16 holds of the trained one, computed with in float32.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save

from ctrak_jax.errors import StoreError
from ctrak_jax.models.checkpoints import safe
from ctrak_jax.run.model_file import parameter_sha256
from ctrak_jax.store.files import plain, write_atomically
from ctrak_jax.typing import Params

FILE = Path(__file__).with_name("model.safetensors")
LICENCE = "Apache-2.0"
ABOUT = "about"
"""The entry of the file's metadata: JSON of what it was made from, by what, and its licence."""
ADVICE = "install the package again, or train the model: ctrak demo --train"


def write(params: Params, made_from: Mapping[str, Any], file: Path) -> None:
    """Keep a trained model.

    Args:
        made_from: what it depends on: settings, data, seed.
    """
    tensors = {
        name: np.asarray(leaf, np.float16) for name, leaf in flatten_dict(params, sep="/").items()
    }
    said = {
        "made_from": plain(made_from),
        "licence": LICENCE,
        "made_by": "ctrak demo --train --out DIR; python -m ctrak_jax.demo DIR",
    }
    # Under one name: the order of several would be another in every process.
    metadata = {ABOUT: json.dumps(said, sort_keys=True)}
    write_atomically(file, save(dict(sorted(tensors.items())), metadata))


def read(template: Params, made_from: Mapping[str, Any], file: Path) -> Params:
    """The parameters in float32.

    Args:
        template: their shapes.
        made_from: what they must have been made from.

    Raises:
        StoreError: the file is damaged, or of other shapes, settings or data.
    """
    found = _opened(file)
    said, wanted = about(found)["made_from"], plain(made_from)
    differing = [name for name in {**said, **wanted} if said.get(name) != wanted.get(name)]
    if differing:
        raise StoreError(f"{file}: was made from other settings or data ({differing}); {ADVICE}.")
    flat: dict[str, Any] = flatten_dict(template, sep="/")
    shapes = {name: leaf.shape for name, leaf in flat.items()}
    if shapes != {name: value.shape for name, value in found.tensors.items()}:
        raise StoreError(f"{file}: its arrays are not those of the network; {ADVICE}.")
    return _params(found)


def about(found: safe.SafeFile) -> dict[str, Any]:
    """What a file says of its arrays."""
    return {"made_from": {}} | json.loads(found.metadata.get(ABOUT, "{}"))


@cache
def sha256() -> str:
    """The hash of the parameters that :func:`read` gives."""
    return parameter_sha256(_params(_opened(FILE)))


def _opened(file: Path) -> safe.SafeFile:
    try:
        return safe.read(file)
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: cannot be read ({error}); {ADVICE}.") from None


def _params(found: safe.SafeFile) -> Params:
    tensors = {name: np.asarray(value, np.float32) for name, value in found.tensors.items()}
    return unflatten_dict(tensors, sep="/")
