"""Install a built wheel alone, in an empty environment, and use it as its first user would.

    python .ci/release_check.py WHEEL [--python python3.12]

Nothing of the repository is on the path: only what the wheel and its dependencies bring.
"""

import argparse
import json
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


def environment() -> dict[str, str]:
    """The caller's, without its Python settings."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return kept | {"JAX_PLATFORMS": "cpu"}


def check_answer(binaries: Path, folder: Path) -> None:
    """The finished demo again, in numbers: what the package's model answers is right."""
    command = [str(binaries / "ctrak"), "demo", "--out", str(folder / "demo"), "--json"]
    done = subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    answer = json.loads(done.stdout)
    ours, *others = answer["carriers"].values()
    if ours < 9 or max(others) > ours - 4:
        raise SystemExit(f"ctrak demo: the answer is not what the README shows: {answer}")
    if not Path(answer["picture"]).is_file():
        raise SystemExit(f"ctrak demo: {answer['picture']} is missing.")


def timed(name: str, command: list[str], folder: Path) -> None:
    """Run a command in a folder, and say how long it took."""
    start = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment(), check=True)
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
        check_answer(binaries, folder)


if __name__ == "__main__":
    main()
