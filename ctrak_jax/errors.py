"""The exceptions that the command line prints as one line, and the command that installs what they
find missing."""

import shlex
import sys


def pip_install(*arguments: str) -> str:
    """The command that installs a package where the running interpreter finds it: the ``pip`` that
    a shell finds first may serve another one."""
    return shlex.join([sys.executable or "python", "-m", "pip", "install", *arguments])


class UsageError(ValueError):
    """Bad input: the message says what was got, what was expected and what to do. The command line
    prints it as one line and exits with status 2."""


class StoreError(RuntimeError):
    """Something on disk is damaged, incomplete or was made from other inputs, or what was computed
    is not finite. The command line prints it as one line and exits with status 1."""


class OutOfTime(KeyboardInterrupt):
    """The time given to the command is up. What is done is saved, and the command line ends with
    status 75: the same command resumes there."""


class HostError(RuntimeError):
    """Another process of the run is missing, late or lost. The command line prints it as one line
    and exits with status 1."""
