"""Install a built wheel alone, in an empty environment, and use it as its first user would.

    python .ci/release_check.py WHEEL [--python python3.12]

Nothing of the repository is on the path: only what the wheel and its dependencies bring.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path


def steps(binaries: Path, folder: Path) -> dict[str, list[str]]:
    """What is tried, by name."""
    ctrak = str(binaries / "ctrak")
    return {
        "version": [ctrak, "--version"],
        "doctor": [ctrak, "doctor"],
        "demo": [ctrak, "demo", "--out", str(folder / "demo")],
    }


def timed(name: str, command: list[str], folder: Path) -> None:
    """Run a command in an empty folder, without the caller's Python settings."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    start = time.monotonic()
    subprocess.run(command, cwd=folder, env=env | {"JAX_PLATFORMS": "cpu"}, check=True)
    print(f"-- {name}: {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Build the environment, then each step; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default="python3")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binaries = folder / "venv" / "bin"
        timed("environment", [asked.python, "-m", "venv", str(folder / "venv")], folder)
        install = [str(binaries / "python"), "-m", "pip", "install", "--quiet"]
        wheel = str(asked.wheel.resolve())
        timed("install", [*install, "--disable-pip-version-check", wheel], folder)
        for step, command in steps(binaries, folder).items():
            timed(step, command, folder)
        pictures = sorted(str(path.relative_to(folder)) for path in folder.rglob("demo/**/*.png"))
        if not pictures:
            raise SystemExit("ctrak demo left no picture.")
        print(f"-- pictures: {len(pictures)}, the first {pictures[0]}")


if __name__ == "__main__":
    main()
