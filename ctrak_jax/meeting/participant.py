"""Every process's side of a meeting."""

import logging
import os
import queue
import socket
import sys
import threading
import time

from ctrak_jax.errors import HostError, UsageError
from ctrak_jax.meeting.coordinator import LINE_SECONDS, RESUME, Coordinator, Limits
from ctrak_jax.meeting.wire import PATIENCE, Wire

GRACE = 1.5
"""Seconds in which a process may end by an error of its own before it does by another's."""
RETRY = 0.3
"""Seconds between two attempts to reach the first process."""
REPORT = 2.0
"""Seconds between two signs of progress."""
logger = logging.getLogger("ctrak")


class Participant:
    """This process in a meeting that has begun; ``alone`` where no other process is on this
    machine. The first process has the ``coordinator``."""

    def __init__(
        self,
        wire: Wire,
        first: str,
        limits: Limits,
        alone: bool,
        coordinator: Coordinator | None = None,
    ) -> None:
        self._wire, self._first, self._limits, self.alone = wire, first, limits, alone
        self._coordinator = coordinator
        self._passed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._leaving, self._ended = threading.Event(), threading.Event()
        self._heard = self._reported = time.monotonic()
        wire.socket.settimeout(None)
        threading.Thread(target=self._listen, name="meeting", daemon=True).start()

    def barrier(self, name: str) -> None:
        """Wait until every process is here.

        Raises:
            HostError: the first process has said nothing for the limit of a barrier.
        """
        self._wire.send(at=name)
        while True:
            try:
                self._passed.get(timeout=1.0)
                return
            except queue.Empty:
                silent = time.monotonic() - self._heard
                if silent > self._limits.barrier and self._coordinator is None:
                    raise HostError(
                        f"barrier {name!r}: process 0 at {self._first} has said nothing for "
                        f"{self._limits.barrier:g} s (--barrier-timeout); {RESUME}."
                    ) from None

    def progress(self) -> None:
        """Let the others know that this process works."""
        if time.monotonic() - self._reported > REPORT:
            self._reported = time.monotonic()
            self._wire.send(progress=True)

    def finish(self) -> None:
        """This process has done its part. The first one stays until the others have done theirs,
        for they would take it for dead; at most for the limit of a barrier."""
        self._leaving.set()
        self._wire.send(finished=True)
        if self._coordinator is not None:
            self._coordinator.join(self._limits.barrier)

    def fail(self, reason: str, status: int) -> None:
        """This process ends by an error; the others will, too."""
        self._leaving.set()
        self._wire.send(failed=reason, status=status)
        self._ended.wait(PATIENCE)  # in the first process: until the others know

    def _listen(self) -> None:
        while True:
            for message in self._wire.receive():
                self._heard = time.monotonic()
                if "say" in message:
                    logger.info("%s", message["say"])
                elif "passed" in message:
                    self._passed.put(message["passed"])
                elif "end" in message:
                    self._stop(message["end"], message.get("status"))
            if self._wire.closed:
                self._stop(f"process 0 at {self._first} is gone without a word; {RESUME}")
                return

    def _stop(self, text: str, status: object = 1) -> None:
        """End this process, unless it is ending."""
        self._ended.set()
        if not self._leaving.wait(0.0 if self._wire.closed else GRACE):
            sys.stdout.flush()
            print(f"ctrak: {text}", file=sys.stderr, flush=True)
            os._exit(status if isinstance(status, int) and status else 1)


_JOINED: list[Participant] = []


def progress() -> None:
    """Let the other processes know that this one works, where there are others."""
    for one in _JOINED:
        one.progress()


def leave(reason: str, status: int) -> None:
    """Let the other processes know that this one ends by an error, where there are others."""
    for one in _JOINED:
        one.fail(reason, status)


def this_process() -> Participant:
    """This process in its meeting.

    Raises:
        HostError: it has joined none.
    """
    if not _JOINED:
        raise HostError("Several processes meet by ctrak_jax.hosts.join, which was not called.")
    return _JOINED[0]


def join(address: str, processes: int, process: int, limits: Limits) -> Participant:
    """Wait for the other processes at ``address`` (host:port of the first), saying who has come.

    Raises:
        UsageError: it is no address, or the first process refuses this one's number.
        HostError: not all have come in time.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator {address}: expected HOST:PORT, such as 10.0.0.1:9999.")
    coordinator = None
    if process == 0:
        coordinator = Coordinator(_listener(int(port)), host, processes, limits)
        coordinator.start()
        wire = Wire(coordinator.own)
        wire.send(process=0, processes=processes, host=socket.gethostname())
        found = _wait(wire, address)
        if found is None:
            raise HostError(f"process 0 at {address}: the meeting has ended.")
    else:
        wire, found = _connect(address, processes, process, limits)
    _JOINED.append(Participant(wire, address, limits, found, coordinator))
    return _JOINED[0]


def _listener(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError as error:
        raise HostError(
            f"--coordinator: port {port} of this machine cannot be opened "
            f"({os.strerror(error.errno or 0)}); "
            "another run may be using it: give another port in every process."
        ) from None


def _connect(address: str, processes: int, process: int, limits: Limits) -> tuple[Wire, bool]:
    """Try until the first process answers."""
    host, _, port = address.rpartition(":")
    began = said = time.monotonic()
    while True:
        try:
            wire = Wire(socket.create_connection((host.strip("[]"), int(port)), PATIENCE / 2))
            wire.send(process=process, processes=processes, host=socket.gethostname())
            alone = _wait(wire, address)
            if alone is not None:
                return wire, alone
            reason = "what listens there hangs up: another run, or this one has begun"
        except socket.gaierror as error:
            reason = f"{host} is no name that this machine knows: {error.strerror}"
        except OSError as error:
            reason = error.strerror or str(error)
        now = time.monotonic()
        left = began + limits.join - now
        if left <= 0:
            raise HostError(
                f"--distributed: process 0 did not answer process {process} at {address} within "
                f"{limits.join:g} s (--join-timeout): {reason}. Start it there, or give in "
                "--coordinator an address of its machine that this one can reach."
            )
        if now - said >= min(LINE_SECONDS, limits.join / 3):
            said = now
            text = "process %d of %d waits for process 0 at %s (%s), %.0f s more"
            logger.info(text, process, processes, address, reason, left)
        time.sleep(min(RETRY, max(left, 0.0)))


def _wait(wire: Wire, address: str) -> bool | None:
    """Until the meeting begins: is this process alone on its machine? None: it was hung up on."""
    wire.socket.settimeout(6 * LINE_SECONDS)
    while not wire.closed:
        for message in wire.receive():
            if "begin" in message:
                return bool(message["alone"])
            if "refused" in message:
                raise UsageError(message["refused"])
            if "end" in message:
                raise HostError(message["end"])
            logger.info("%s", message.get("say"))
    wire.close()
    return None
