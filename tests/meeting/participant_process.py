"""One of a meeting: ``python -m tests.meeting.participant_process ADDRESS N I JOIN ...``."""

import logging
import os
import signal
import sys
import time

from ctrak_jax import meeting
from ctrak_jax.errors import HostError, UsageError


def work(seconds: str) -> None:
    """Progress for so long."""
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        meeting.progress()
        time.sleep(0.05)


ACTS = {
    "barrier": lambda name: meeting.this_process().barrier(name),
    "finish": lambda _: meeting.this_process().finish(),
    "fail": lambda reason: (meeting.leave(reason, 3), os._exit(3)),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "say": lambda word: print(word, flush=True),
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "work": work,
}


def main() -> None:
    address, processes, process, join, barrier, *acts = sys.argv[1:]
    limits = meeting.Limits(float(join), float(barrier))
    try:
        meeting.join(address, int(processes), int(process), limits)
        for act in acts:
            name, _, value = act.partition("=")
            ACTS[name](value)
    except (HostError, UsageError) as error:
        print(f"ctrak: {error}", file=sys.stderr, flush=True)
        os._exit(1 if isinstance(error, HostError) else 2)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
