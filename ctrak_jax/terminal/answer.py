"""The answer to one question as a small table, or as one for each concept."""

from collections.abc import Mapping, Sequence
from typing import Any


def text(answer: Mapping[str, Any]) -> str:
    """What ``ctrak attribute`` prints."""
    damping = [f"damping r = {answer['damping']:g}"] if "damping" in answer else []
    if "concepts" not in answer:
        return "\n".join([*damping, *_table(answer["top"])])
    lines = [f"prompt   {answer['prompt']}", *damping]
    for one in answer["concepts"]:
        lines += ["", f"concept  {one['concept']}"]
        lines += [] if "reward" in answer else [f"without  {one['minus'] or '(no words)'}"]
        lines += _table(one["top"])
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{'rank':>4} {'index':>8} {'score':>12}  image"]
    for item in rows:
        said = item.get("prompt") or ", ".join(f"{k}={v}" for k, v in item["attributes"].items())
        lines.append(f"{item['rank']:4d} {item['index']:8d} {item['score']:12.5g}  {said}")
    return lines
