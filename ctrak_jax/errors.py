"""The exceptions that the command line prints as one line."""


class UsageError(ValueError):
    """Bad input: the message says what was got, what was expected and what to do. The command line
    prints it as one line and exits with status 2."""


class StoreError(RuntimeError):
    """Something on disk is damaged, incomplete or was made from other inputs. The command line
    prints it as one line and exits with status 1."""


class OutOfTime(KeyboardInterrupt):
    """The time given to the command is up. What is done is saved, and the command line ends with
    status 75: the same command resumes there."""


class HostError(RuntimeError):
    """Another process of the run is missing, late or lost. The command line prints it as one line
    and exits with status 1."""
