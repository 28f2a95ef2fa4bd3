"""Features and scores on disk, or wherever tensorstore writes."""

from ctrak_jax.store.encoding import Dtype
from ctrak_jax.store.features import FeatureStore
from ctrak_jax.store.manifest import read_manifest
from ctrak_jax.store.place import Place, below, is_url
from ctrak_jax.store.scores import read_scores, write_scores

__all__ = [
    "Dtype",
    "FeatureStore",
    "Place",
    "below",
    "is_url",
    "read_manifest",
    "read_scores",
    "write_scores",
]
