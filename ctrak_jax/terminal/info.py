"""What a run or a feature store holds, as lines."""

from collections.abc import Mapping
from typing import Any


def text(found: Mapping[str, Any]) -> str:
    """What ``ctrak info`` prints."""
    lines = []
    for path, about in found["models"].items():
        lines.append(f"{path}: {about['parameters']:,} parameters, sha256 {about['sha256'][:12]}")
    for path, about in found["stores"].items():
        state = "complete" if not about["missing"] else f"{about['missing']} chunks missing"
        lines.append(
            f"{path}: {about['rows']:,} rows, {about['bytes'] / 2**20:.1f} MiB, {state}, checksums "
            f"right; {_made_from(about['key'])}"
        )
    return "\n".join(lines)


def _made_from(key: Mapping[str, Any]) -> str:
    try:
        projection = f"{key['projection']['kind']} k={key['projection']['k']}"
        return f"{key['loss']} on {key['trajectory']['path']}, {projection}"
    except (KeyError, TypeError):  # a store of somebody else's
        return f"made from {', '.join(key) or 'nothing'}"
