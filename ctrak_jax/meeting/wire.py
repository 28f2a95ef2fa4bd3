"""Messages between processes: JSON objects of plain values, one per line of a TCP connection."""

import json
import socket
import threading
from typing import Any

LONGEST = 2**16
"""Bytes of a message. A stranger at the port cannot fill the memory."""
PATIENCE = 10.0
"""Seconds after which a peer that takes no message counts as gone."""
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
"""The kernel asks a silent machine after so many seconds, and gives it up 40 s later."""


class Wire:
    """One connection. It is ``closed`` where the other side has hung up, or said what is no
    message."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.closed = connection, False
        self._unread, self._sending = b"", threading.Lock()
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for name, value in KEEPALIVE.items():
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, **message: Any) -> None:
        """Send a message; to one that is gone it is lost."""
        try:
            with self._sending:
                self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.closed = True

    def receive(self) -> list[dict[str, Any]]:
        """What has arrived, after a wait for something to arrive; ``closed`` where nothing can.

        Raises:
            TimeoutError: the socket has a time limit, and it has passed.
        """
        try:
            found = self.socket.recv(LONGEST)
        except TimeoutError:
            raise
        except OSError:  # reset by a peer that died
            found = b""
        *lines, self._unread = (self._unread + found).split(b"\n")
        messages = [_message(line) for line in lines]
        self.closed |= not found or len(self._unread) > LONGEST or None in messages
        return [message for message in messages if message is not None]

    def close(self) -> None:
        self.closed = True
        self.socket.close()


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    plain = isinstance(found, dict) and not any(isinstance(v, (list, dict)) for v in found.values())
    return found if plain else None
