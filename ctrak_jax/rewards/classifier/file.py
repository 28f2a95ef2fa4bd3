"""A fitted classifier on disk: safetensors, and as metadata its heads and where it comes from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import safe
from ctrak_jax.rewards.classifier.fitting import ClassifierFit, accuracy
from ctrak_jax.rewards.classifier.network import NETWORK, AttributeHead, Classifier
from ctrak_jax.store.files import plain, write_atomically
from ctrak_jax.typing import Params

ABOUT = "classifier"
"""The entry of the file's metadata: JSON."""
SUFFIX = ".safetensors"


class ClassifierFile(NamedTuple):
    """A classifier, its parameters, and what its file says of it: ``made_from`` and
    ``held_out``."""

    classifier: Classifier
    params: Params
    about: dict[str, Any]


def write(file: Path, fitted: ClassifierFit, made_from: Mapping[str, Any]) -> None:
    """Keep a fitted classifier.

    Args:
        file: where.
        fitted: the classifier.
        made_from: what it was fitted on, and how.
    """
    flat = flatten_dict(fitted.params, sep="/")
    tensors = {name: np.asarray(leaf, np.float32) for name, leaf in sorted(flat.items())}
    about = {
        "heads": [[head.attribute, list(head.values)] for head in fitted.classifier.heads],
        "side": fitted.classifier.side,
        "network": NETWORK,
        "made_from": plain(made_from),
        "held_out": held_out_summary(fitted),
    }
    write_atomically(file, save(tensors, {ABOUT: json.dumps(about, sort_keys=True)}))


def held_out_summary(fitted: ClassifierFit) -> dict[str, Any]:
    """What the held-out pictures show: the accuracy by attribute, of sharp and of degraded
    ones, and the counts of the sharp ones by value."""
    return {
        "accuracy": accuracy(fitted.sharp),
        "degraded": accuracy(fitted.degraded),
        "right": {f"{c.attribute}={c.value}": [c.right, c.total] for c in fitted.sharp},
    }


def read(file: Path) -> ClassifierFile:
    """A classifier of a file.

    Raises:
        UsageError: missing, damaged, or of another kind.
    """
    try:
        found = safe.read(file)
        about = json.loads(found.metadata[ABOUT])
        if about.get("network") != NETWORK:
            raise ValueError(f"version {about.get('network', 1)} of the network, not {NETWORK}")
        heads = tuple(AttributeHead(name, tuple(values)) for name, values in about["heads"])
        classifier = Classifier(heads, int(about["side"]))
        template: dict[str, Any] = flatten_dict(_template(classifier), sep="/")
        shapes = {name: leaf.shape for name, leaf in template.items()}
        if shapes != {name: value.shape for name, value in found.tensors.items()}:
            raise ValueError("its arrays are not those of a classifier of its heads")
        tensors = {name: np.array(value, np.float32) for name, value in found.tensors.items()}
    except FileNotFoundError:
        raise UsageError(
            f"{file} is missing; fit a classifier by `ctrak reward fit`, or let `ctrak query` with "
            "query.reward=classifier fit one on the run's attributes."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise UsageError(
            f"{file}: is no classifier of `ctrak reward fit` ({reason}); fit it again."
        ) from None
    return ClassifierFile(classifier, unflatten_dict(tensors, sep="/"), about)


def sha256(file: Path) -> str:
    """The hash of a file's arrays and of what it says.

    Raises:
        UsageError: as :func:`read`.
    """
    read(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _template(classifier: Classifier) -> Params:
    return jax.eval_shape(classifier.init, jax.random.key(0))
