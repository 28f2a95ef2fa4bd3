"""Files as the tools write them, unpacked once per test run (fixtures/README.md)."""

import atexit
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.paths import FIXTURES


@cache
def _unpacked(name: str) -> Path:
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    with tarfile.open(FIXTURES / name) as archive:
        archive.extractall(folder.name, filter="data")
    return Path(folder.name)


def forms() -> Path:
    """One Stable Diffusion in many forms, its schedulers, dtypes and textual inversions."""
    return _unpacked("sd_forms.tar.xz")


def loras() -> Path:
    """LoRAs of that model."""
    return _unpacked("lora.tar.xz")


def abc_mini() -> Path:
    """The AbC benchmark of that model in its released layout, with features and scores."""
    return _unpacked("abc_mini.tar.xz")


def sd3() -> Path:
    """Small models in the layout of Stable Diffusion 3 and 3.5, with references."""
    return _unpacked("sd3.tar.xz")


def flux() -> Path:
    """Small models in the layout of FLUX.1-dev and schnell, with references."""
    return _unpacked("flux.tar.xz")


def dit_xl() -> Path:
    """A small class-conditional model in the layout of DiT-XL/2, with references."""
    return _unpacked("dit_xl.tar.xz")


def sdxl() -> Path:
    """A small model in the layout of Stable Diffusion XL, with references."""
    return _unpacked("sdxl.tar.xz")
