"""A small config for a command to fail on."""

from pathlib import Path

import yaml

# Should a fault slip through, what runs must be over soon.
SMALL = {
    "data": {"size": 24},
    "model": {"width": 16, "depth": 1, "heads": 2},
    "train": {"steps": 1, "batch": 8, "warmup": 0, "scan": 1, "checkpoint_every": 1},
    "projection": {"k": 32},
}


def write_config(folder: Path, **sections: dict) -> Path:
    """A small config with some settings changed."""
    merged = {name: dict(section) for name, section in SMALL.items()}
    for name, section in sections.items():
        merged[name] = {**merged.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(merged))
    return path
