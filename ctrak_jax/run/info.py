"""What a run or a feature store holds; the checksums of every feature are verified."""

from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError
from ctrak_jax.run import model_file
from ctrak_jax.store import FeatureStore, Place, is_url, read_manifest


def describe(path: Place) -> dict[str, Any]:
    """Models and stores below a folder, or the one store at a URL.

    Raises:
        UsageError: there is nothing of this project.
        StoreError: something is damaged.
    """
    if is_url(path):
        return {"models": {}, "stores": {str(path): _store(path)}}
    path = Path(path)
    manifests = sorted(path.rglob("manifest.json")) if path.is_dir() else []
    models = sorted(path.rglob("model.json")) if path.is_dir() else []
    if not manifests and not models:
        raise UsageError(f"{path}: holds no model and no feature store; give a run's folder.")
    return {
        "models": {str(file.parent): model_file.about(file.parent) for file in models},
        "stores": {str(file.parent): _store(file.parent) for file in manifests},
    }


def _store(path: Place) -> dict[str, Any]:
    manifest = read_manifest(path)
    store = FeatureStore(path, manifest)
    store.verify()
    return {
        "rows": store.rows,
        "chunks": len(store.chunks),
        "missing": len(store.missing),
        "bytes": store.bytes,
        "key": store.key,
    }
