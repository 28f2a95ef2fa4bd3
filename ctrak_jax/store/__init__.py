"""Features and scores on disk, or wherever tensorstore writes.

A name is loaded with its module when it is first used (PEP 562): ``ctrak_jax.store.files`` alone
loads neither JAX nor tensorstore.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrak_jax.store.encoding import Dtype as Dtype
    from ctrak_jax.store.features import FeatureStore as FeatureStore
    from ctrak_jax.store.manifest import read_manifest as read_manifest
    from ctrak_jax.store.place import Place as Place
    from ctrak_jax.store.place import below as below
    from ctrak_jax.store.place import is_url as is_url
    from ctrak_jax.store.scores import read_score_rows as read_score_rows
    from ctrak_jax.store.scores import read_scores as read_scores
    from ctrak_jax.store.scores import score_blocks as score_blocks
    from ctrak_jax.store.scores import write_scores as write_scores

_MODULES = {
    "Dtype": "encoding",
    "FeatureStore": "features",
    "Place": "place",
    "below": "place",
    "is_url": "place",
    "read_manifest": "manifest",
    "read_score_rows": "scores",
    "read_scores": "scores",
    "score_blocks": "scores",
    "write_scores": "scores",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
