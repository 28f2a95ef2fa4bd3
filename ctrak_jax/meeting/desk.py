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

SAY_SECONDS = 10.0
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
class Guest:
    """A process that has said which one it is, or has not yet (``process`` < 0)."""

    wire: Wire
    address: str
    process: int = -1
    host: str = ""
    waiting: str | None = None
    came: float = 0.0
    progress: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        return f"process {self.process} at {self.address} ({self.host})"


class Desk(threading.Thread):
    """Serves the meeting of ``processes`` in a thread of the first one, until that ends. ``own`` is
    the first process's own connection."""

    def __init__(
        self, listener: socket.socket, address: str, processes: int, limits: Limits
    ) -> None:
        super().__init__(name="meeting", daemon=True)
        self._listener, self._processes, self._limits = listener, processes, limits
        self._began = self._said = time.monotonic()
        self._gap = self._tick = min(SAY_SECONDS, limits.join / 3, limits.barrier / 3)
        self._guests: list[Guest] = []
        self._left, self._is_open, self._over = 0, True, False
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self.own, mine = socket.socketpair()
        self._welcome(mine, address)

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
                    self._hear(key.data)
            (self._look_who_comes if self._is_open else self._look_who_is_late)()

    def _accept(self) -> None:
        with suppress(OSError):  # it has hung up, or the meeting has begun and the port is closed
            connection, address = self._listener.accept()
            self._welcome(connection, address[0].removeprefix("::ffff:"))

    def _welcome(self, connection: socket.socket, address: str) -> None:
        connection.settimeout(PATIENCE)
        guest = Guest(Wire(connection), address)
        self._guests.append(guest)
        self._selector.register(connection, selectors.EVENT_READ, guest)

    def _hear(self, guest: Guest) -> None:
        for message in guest.wire.receive():
            guest.progress = time.monotonic()
            if guest.process < 0:
                self._seat(guest, message)
            elif "at" in message:
                guest.waiting, guest.came = str(message["at"]), guest.progress
                self._let_pass()
            elif "failed" in message:
                self._end(f"{guest} ended: {message['failed']}", message.get("status"))
            elif "bye" in message:
                self._left += 1
                self._forget(guest)
        if guest.wire.closed and guest in self._guests:
            self._forget(guest)
            if guest.process >= 0 and not self._is_open:
                self._end(f"{guest} is gone without a word (killed, or out of memory); {RESUME}")

    def _forget(self, guest: Guest) -> None:
        self._guests.remove(guest)
        self._selector.unregister(guest.wire.socket)
        guest.wire.close()

    def _seat(self, guest: Guest, message: dict[str, Any]) -> None:
        process, processes = message.get("process"), message.get("processes")
        same = [other for other in self._present() if other.process == process]
        if processes != self._processes:
            guest.wire.send(
                refused=f"--processes={processes} here, and {self._processes} in the first "
                "process; give all the same number."
            )
        elif same or not isinstance(process, int) or process not in range(self._processes):
            taken = f"{same[0]} has come before" if same else "there is no such process"
            guest.wire.send(refused=f"--process={process}: {taken}; number them from 0, each once.")
        else:
            guest.process, guest.host = process, str(message.get("host"))
        if len(self._present()) == self._processes:
            self._begin()

    def _present(self) -> list[Guest]:
        return sorted((g for g in self._guests if g.process >= 0), key=lambda g: g.process)

    def _begin(self) -> None:
        """All are here: the port is JAX's from now on."""
        self._is_open = False
        self._selector.unregister(self._listener)
        self._listener.close()
        for guest in list(self._guests):
            alone = sum(other.host == guest.host for other in self._present()) == 1
            if guest.process >= 0:
                guest.wire.send(begin=True, alone=alone)
            else:
                self._forget(guest)

    def _look_who_comes(self) -> None:
        now = time.monotonic()
        left, limit = self._began + self._limits.join - now, self._limits.join
        here = self._present()
        absent = sorted(set(range(self._processes)) - {guest.process for guest in here})
        missing = _list(f"process {number}" for number in absent)
        come = f"{len(here)} of {self._processes} processes have come: {_list(here)}"
        if left <= 0:
            self._end(
                f"--distributed: {come}; missing after {limit:g} s (--join-timeout): {missing}. "
                "Start the same command there, or look why it ended."
            )
        elif now - self._said >= self._tick:
            self._said = now
            self._tell(self._guests, f"{come}; missing: {missing}; waiting {left:.0f} s more")

    def _let_pass(self) -> None:
        at = {guest.waiting for guest in self._guests}
        if None in at:
            return
        if len(at) > 1:
            where = ", ".join(f"{g} at {g.waiting!r}" for g in self._present())
            self._end(f"the processes do different things: {where}; start one command in all")
            return
        for guest in self._guests:
            guest.waiting = None
            guest.wire.send(passed=at.copy().pop())
        self._gap = self._tick

    def _look_who_is_late(self) -> None:
        now, waiting = time.monotonic(), [g for g in self._guests if g.waiting is not None]
        if now - self._said >= self._tick:
            self._said = now
            for guest in self._guests:
                guest.wire.send(alive=True)
        late = [guest for guest in self._present() if guest.waiting is None]
        if not waiting or not late:
            return
        since = now - min(guest.came for guest in waiting)
        silent = [g for g in late if min(since, now - g.progress) >= self._limits.barrier]
        if silent:
            self._end(
                f"barrier {waiting[0].waiting!r}: no sign of progress from {_list(silent)} for "
                f"{self._limits.barrier:g} s (--barrier-timeout); look what it does. After that "
                f"{RESUME}."
            )
        elif since >= self._gap:
            self._gap = since + min(since, LONGEST_SILENCE)
            last = ", ".join(
                f"{guest}, heard of {now - guest.progress:.0f} s ago" for guest in late
            )
            self._tell(
                waiting, f"barrier {waiting[0].waiting!r}, after {since:.0f} s: waiting for {last}"
            )

    def _tell(self, guests: Iterable[Guest], text: str) -> None:
        for guest in guests:
            guest.wire.send(say=text)

    def _end(self, text: str, status: Any = 1) -> None:
        """Tell the others, and when they have gone the first process itself."""
        if self._over:
            return
        self._over = True
        for guest in self._guests:
            if guest.process != 0:
                guest.wire.send(end=text, status=status)
        until = time.monotonic() + PATIENCE / 2
        for guest in self._guests:
            guest.wire.socket.settimeout(0.1)
            while guest.process > 0 and not guest.wire.closed and time.monotonic() < until:
                _drained(guest.wire)
        for guest in self._guests:
            if guest.process == 0:
                guest.wire.send(end=text, status=status)


def _drained(wire: Wire) -> None:
    with suppress(TimeoutError):
        wire.receive()


def _list(what: Iterable[Any]) -> str:
    return ", ".join(map(str, what)) or "none"
