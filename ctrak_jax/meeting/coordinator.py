"""The first process's side of a meeting: who has come, who is late, who is gone."""

import selectors
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ctrak_jax.meeting.wire import PATIENCE, Wire

LINE_SECONDS = 10.0
"""While processes are missing, seconds between the lines that say who has come."""
LONGEST_SILENCE = 600.0
"""At a barrier the lines become rarer, down to one per so many seconds."""
RESUME = "the same command in every process resumes the run"


class Limits(NamedTuple):
    """Seconds that the processes wait for each other.

    Attributes:
        join: until all have come.
        barrier: without a sign of progress from one that is missing at a barrier.
    """

    join: float = 300.0
    barrier: float = 3600.0


@dataclass(eq=False)
class Connection:
    """What is connected: a process that has said which one it is, or has not yet (``process`` <
    0)."""

    wire: Wire
    address: str
    process: int = -1
    host: str = ""
    waiting: str | None = None
    came: float = 0.0
    progress: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"process {self.process} at {self.address} ({self.host})"


class Coordinator(threading.Thread):
    """Serves the meeting of ``processes`` in a thread of the first one, until that ends. ``own`` is
    the first process's own connection."""

    def __init__(
        self, listener: socket.socket, address: str, processes: int, limits: Limits
    ) -> None:
        super().__init__(name="meeting", daemon=True)
        self._listener, self._processes, self._limits = listener, processes, limits
        self._began = self._said = time.monotonic()
        self._gap = self._tick = min(LINE_SECONDS, limits.join / 3, limits.barrier / 3)
        self._connections: list[Connection] = []
        self._left, self._is_open, self._over = 0, True, False
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self.own, mine = socket.socketpair()
        self._add(mine, address)

    def run(self) -> None:
        """Serve; an error here ends the meeting, since the first process would wait for ever."""
        try:
            self._serve()
        except Exception as error:
            self._over = False
            said = f"{type(error).__name__}: {error}".partition("\n")[0]
            self._end(f"the meeting of the processes failed ({said}); {RESUME}")

    def _serve(self) -> None:
        while not self._over and self._left < self._processes:
            for key, _ in self._selector.select(timeout=min(self._tick, 1.0) / 4):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            (self._check_joining if self._is_open else self._check_barrier)()

    def _accept(self) -> None:
        with suppress(OSError):  # it has hung up, or the meeting has begun and the port is closed
            accepted, address = self._listener.accept()
            self._add(accepted, address[0].removeprefix("::ffff:"))

    def _add(self, accepted: socket.socket, address: str) -> None:
        accepted.settimeout(PATIENCE)
        connection = Connection(Wire(accepted), address)
        self._connections.append(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        for message in connection.wire.receive():
            connection.progress = time.monotonic()
            if connection.process < 0:
                self._register(connection, message)
            elif "at" in message:
                connection.waiting, connection.came = str(message["at"]), connection.progress
                self._release_barrier()
            elif "failed" in message:
                self._end(f"{connection} ended: {message['failed']}", message.get("status"))
            elif "finished" in message:
                self._left += 1
                self._drop(connection)
        if connection.wire.closed and connection in self._connections:
            self._drop(connection)
            if connection.process >= 0 and not self._is_open:
                self._end(
                    f"{connection} is gone without a word (killed, or out of memory); {RESUME}"
                )

    def _drop(self, connection: Connection) -> None:
        self._connections.remove(connection)
        self._selector.unregister(connection.wire.socket)
        connection.wire.close()

    def _register(self, connection: Connection, message: dict[str, Any]) -> None:
        process, processes = message.get("process"), message.get("processes")
        same = [other for other in self._joined() if other.process == process]
        if processes != self._processes:
            connection.wire.send(
                refused=f"--processes={processes} here, and {self._processes} in the first "
                "process; give all the same number."
            )
        elif same or not isinstance(process, int) or process not in range(self._processes):
            taken = f"{same[0]} has come before" if same else "there is no such process"
            connection.wire.send(
                refused=f"--process={process}: {taken}; number them from 0, each once."
            )
        else:
            connection.process, connection.host = process, str(message.get("host"))
        if len(self._joined()) == self._processes:
            self._begin()

    def _joined(self) -> list[Connection]:
        return sorted(
            (connection for connection in self._connections if connection.process >= 0),
            key=lambda connection: connection.process,
        )

    def _begin(self) -> None:
        """All are here: the port is JAX's from now on."""
        self._is_open = False
        self._selector.unregister(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            alone = sum(other.host == connection.host for other in self._joined()) == 1
            if connection.process >= 0:
                connection.wire.send(begin=True, alone=alone)
            else:
                self._drop(connection)

    def _check_joining(self) -> None:
        now = time.monotonic()
        left, limit = self._began + self._limits.join - now, self._limits.join
        here = self._joined()
        absent = sorted(set(range(self._processes)) - {connection.process for connection in here})
        missing = _list(f"process {number}" for number in absent)
        come = f"{len(here)} of {self._processes} processes have come: {_list(here)}"
        if left <= 0:
            self._end(
                f"--distributed: {come}; missing after {limit:g} s (--join-timeout): {missing}. "
                "Start the same command there, or look why it ended."
            )
        elif now - self._said >= self._tick:
            self._said = now
            self._send_line(
                self._connections, f"{come}; missing: {missing}; waiting {left:.0f} s more"
            )

    def _release_barrier(self) -> None:
        at = {connection.waiting for connection in self._connections}
        if None in at:
            return
        if len(at) > 1:
            where = ", ".join(
                f"{connection} at {connection.waiting!r}" for connection in self._joined()
            )
            self._end(f"the processes do different things: {where}; start one command in all")
            return
        for connection in self._connections:
            connection.waiting = None
            connection.wire.send(passed=at.copy().pop())
        self._gap = self._tick

    def _check_barrier(self) -> None:
        now, waiting = (
            time.monotonic(),
            [connection for connection in self._connections if connection.waiting is not None],
        )
        if now - self._said >= self._tick:
            self._said = now
            for connection in self._connections:
                connection.wire.send(alive=True)
        late = [connection for connection in self._joined() if connection.waiting is None]
        if not waiting or not late:
            return
        since = now - min(connection.came for connection in waiting)
        silent = [
            connection
            for connection in late
            if min(since, now - connection.progress) >= self._limits.barrier
        ]
        if silent:
            self._end(
                f"barrier {waiting[0].waiting!r}: no sign of progress from {_list(silent)} for "
                f"{self._limits.barrier:g} s (--barrier-timeout); look what it does. After that "
                f"{RESUME}."
            )
        elif since >= self._gap:
            self._gap = since + min(since, LONGEST_SILENCE)
            last = ", ".join(
                f"{connection}, heard of {now - connection.progress:.0f} s ago"
                for connection in late
            )
            self._send_line(
                waiting, f"barrier {waiting[0].waiting!r}, after {since:.0f} s: waiting for {last}"
            )

    def _send_line(self, connections: Iterable[Connection], text: str) -> None:
        for connection in connections:
            connection.wire.send(say=text)

    def _end(self, text: str, status: Any = 1) -> None:
        """Tell the others, and when they have gone the first process itself."""
        if self._over:
            return
        self._over = True
        for connection in self._connections:
            if connection.process != 0:
                connection.wire.send(end=text, status=status)
        until = time.monotonic() + PATIENCE / 2
        for connection in self._connections:
            connection.wire.socket.settimeout(0.1)
            while (
                connection.process > 0 and not connection.wire.closed and time.monotonic() < until
            ):
                _drained(connection.wire)
        for connection in self._connections:
            if connection.process == 0:
                connection.wire.send(end=text, status=status)


def _drained(wire: Wire) -> None:
    with suppress(TimeoutError):
        wire.receive()


def _list(what: Iterable[Any]) -> str:
    return ", ".join(map(str, what)) or "none"
