"""A command that must fail."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from ctrak_jax import cli


class Outcome(NamedTuple):
    status: int
    line: str
    out: str


@pytest.fixture
def ctrak(capsys, tmp_path, monkeypatch) -> Callable[..., Outcome]:
    """Run a command that must fail; its exit status and its one line of complaint."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Outcome:
        capsys.readouterr()
        try:
            status = cli.main([str(a) for a in argv])
        except Exception as error:
            pytest.fail(f"a traceback instead of one line: {type(error).__name__}: {error}")
        out, err = capsys.readouterr()
        lines = err.splitlines()
        complaints = [line for line in lines if line.startswith("ctrak: ")]
        assert "Traceback" not in err
        assert len(complaints) == 1, f"exit status {status}, stderr: {err!r}"
        assert lines[-1] == complaints[0], "the complaint is one line, and the last"
        return Outcome(status, complaints[0], out)

    return run
