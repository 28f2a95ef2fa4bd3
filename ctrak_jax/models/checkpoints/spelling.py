"""One spelling in which PyTorch's names of modules and flax's paths are compared."""

import re

ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Attention layers have borne two sets of names."""


def plain(module: str) -> str:
    """A module's name, joined by dots: numbers stand apart, attention has its older names."""
    name = re.sub(r"[._](\d+)(?=\.|$)", r".\1", module)
    for spelling, common in ATTENTION.items():
        name = re.sub(rf"\.{re.escape(spelling)}$", f".{common}", name)
    return name
