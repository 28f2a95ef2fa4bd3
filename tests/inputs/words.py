"""A run of a text-to-image model over noise with captions of two words."""

from itertools import product
from pathlib import Path

from ctrak_jax import pipeline
from ctrak_jax.config import Config
from ctrak_jax.stages.context import Context

VALUES = {"noun": ("a", "b"), "tail": ("c", "d")}
EACH = 5
PAIRS = list(product(*VALUES.values()))
SETTINGS = {
    "run": {"devices": 1},
    "model": {"kind": "text-to-image"},
    "gradient": {"include": ["*attn2*"], "time_chunk": 1, "batch": 4},
    "trajectory": {"steps": 4, "record_every": 2, "negative": "other", "negatives": 1},
    "projection": {"k": 32},
    "query": {
        "check": "none",
        "scopes": ["local"],
        "trajectories": 1,
        "per_combination": 1,
        "validation": 1,
        "repetitions": 1,
        "sampling_guidance": 2.0,
    },
    "score": {"damping": [1.0], "top": 10},
    "evaluate": {"k": [5], "bootstrap": 100},
    "methods": ["concept-trak", "d-trak"],
    "controls": [],
    "unnamed": {"attributes": []},
}


def config(data: Path, model: Path | None, **sections: dict) -> Config:
    settings = {
        name: dict(value) if isinstance(value, dict) else value for name, value in SETTINGS.items()
    }
    settings["data"] = {
        "kind": "folder",
        "path": data,
        "condition_on": list(VALUES),
        "hold_out": [{"noun": "a", "tail": "d"}],
    }
    settings["model"]["checkpoint"] = model
    for name, section in sections.items():
        settings[name] = settings.get(name, {}) | section
    return Config.model_validate(settings)


def encoded_by(data: Path, model: Path, out: Path, **sections: dict) -> Context:
    """Encode alone; the context of the run."""
    settings = config(data, model, **sections)
    pipeline.run(settings, out, ("train", "encode"))
    return pipeline.prepare(settings, out)[0]
