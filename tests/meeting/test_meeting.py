"""Real processes on loopback that come, wait, are late, end and die. None of them loads JAX."""

import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest

from ctrak_jax.meeting.coordinator import Coordinator, Limits
from ctrak_jax.meeting.wire import Wire

LONG = 60.0
"""More seconds than any of these tests takes, also on a busy machine."""


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error; there is nothing but it and what the meeting says."""
        (found,) = [line for line in self.err.splitlines() if line.startswith("ctrak: ")]
        assert "Traceback" not in self.err
        return found


class Participants:
    """Processes of one meeting."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.running: list[subprocess.Popen[str]] = []

    def start(self, process: int, *acts: str, of: int = 2, join=LONG, barrier=LONG, at="127.0.0.1"):
        words = [f"{at}:{self.port}", of, process, join, barrier, *acts]
        command = [sys.executable, "-m", "tests.meeting.participant_process", *map(str, words)]
        pipe = subprocess.PIPE
        self.running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        return self.running[-1]

    def ended(self) -> list[Ended]:
        """What all have said."""
        found = [(process.communicate(timeout=LONG), process) for process in self.running]
        return [Ended(process.returncode, *said) for said, process in found]


@pytest.fixture
def participants():
    found = Participants()
    yield found
    for process in found.running:
        process.kill()
        process.communicate()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_all_meet_at_every_barrier_and_leave(participants):
    for process in (2, 0, 1):
        participants.start(process, "barrier=a", "say=between", "barrier=b", "finish", of=3)
    assert participants.ended() == [Ended(0, "between\n", "")] * 3


def test_the_first_process_stays_until_the_others_have_left(participants):
    participants.start(0, "barrier=a", "finish")
    participants.start(1, "barrier=a", "sleep=2", "say=late", "finish")
    assert participants.ended() == [Ended(0, "", ""), Ended(0, "late\n", "")]


def test_a_stranger_who_connects_as_the_last_one_joins_does_no_harm():
    listener = socket.create_server(("127.0.0.1", 0))
    coordinator = Coordinator(listener, "127.0.0.1", 1, Limits(LONG, LONG))
    own = Wire(coordinator.own)
    own.send(process=0, processes=1, host="here")
    own.send(finished=True)
    with coordinator.own, socket.create_connection(listener.getsockname()):
        coordinator.run()
        assert [message for message in own.receive() if "begin" in message]


def test_an_error_of_the_coordinator_ends_the_meeting_with_a_line(monkeypatch):
    def fail(*_):
        raise LookupError("no such\nthing")

    listener = socket.create_server(("127.0.0.1", 0))
    coordinator = Coordinator(listener, "127.0.0.1", 1, Limits(LONG, LONG))
    own = Wire(coordinator.own)
    own.send(process=0, processes=1, host="here")
    own.send(at="stage")
    monkeypatch.setattr(Coordinator, "_release_barrier", fail)
    with coordinator.own, listener:
        coordinator.run()
        (end,) = [message for message in own.receive() if "end" in message]
        coordinator._connections[0].wire.close()
    assert "the meeting of the processes failed (LookupError: no such); the same" in end["end"]
    assert end["status"] == 1


def test_none_passes_a_barrier_before_the_last_has_come(participants):
    participants.start(0, "barrier=a", "say=passed", "finish")
    participants.start(1, "say=there", "sleep=1.5", "barrier=a", "finish")
    first, second = participants.running
    assert second.stdout.readline() == "there\n"
    assert select.select([first.stdout], [], [], 0.7)[0] == []
    assert participants.ended() == [Ended(0, "passed\n", ""), Ended(0, "", "")]


def test_those_who_have_come_are_named_and_then_those_who_have_not(participants):
    for process in (0, 2):
        participants.start(process, of=4, join=3)
    for end in participants.ended():
        assert end.status == 1
        assert "processes have come: process 0 at 127.0.0.1 (" in end.err
        assert "process 2 at 127.0.0.1 (" in end.line
        assert "2 of 4 processes have come" in end.line
        assert "missing after 3 s (--join-timeout): process 1, process 3." in end.line
        assert re.search(r"missing: process 1, process 3; waiting [12] s more", end.err)


def test_without_the_first_process_the_others_say_where_it_should_be(participants):
    participants.start(1, join=1.5)
    (end,) = participants.ended()
    assert end.status == 1
    assert f"waits for process 0 at 127.0.0.1:{participants.port} (Connection refused)" in end.err
    assert (
        f"process 0 did not answer process 1 at 127.0.0.1:{participants.port} within 1.5 s"
        in end.line
    )
    assert "(--join-timeout): Connection refused. Start it there" in end.line


def test_a_name_that_is_not_known_is_told(participants):
    participants.start(1, join=1, at="no.such.host.invalid")
    (end,) = participants.ended()
    assert end.status == 1
    assert "no.such.host.invalid is no name that this machine knows" in end.line


@pytest.mark.parametrize("address", ["here", "host:", ":9", "host:port", "host:99999"])
def test_what_is_no_address_is_refused(participants, address):
    participants.port = address.rpartition(":")[2]
    participants.start(1, at=address.rpartition(":")[0])
    (end,) = participants.ended()
    assert end.status == 2
    assert "expected HOST:PORT" in end.line


def test_a_port_in_use_is_told(participants):
    with socket.create_server(("127.0.0.1", participants.port)):
        participants.start(0)
        (end,) = participants.ended()
    assert end.status == 1
    told = f"port {participants.port} of this machine cannot be opened (Address already in use)"
    assert told in end.line


def test_another_program_at_the_port_is_told(participants):
    with socket.create_server(("127.0.0.1", participants.port)) as other:
        participants.start(1, join=1.5)
        while participants.running[0].poll() is None:
            other.settimeout(0.5)
            with suppress(TimeoutError):
                connection, _ = other.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()
        (end,) = participants.ended()
    assert end.status == 1
    assert "hangs up: another run, or this one has begun" in end.line


def test_a_number_taken_and_another_count_are_refused(participants):
    participants.start(0, "barrier=a", "finish", of=3)
    taken = participants.start(1, "barrier=a", "finish", of=3)
    again, other = participants.start(1, "barrier=a", "finish", of=3), participants.start(2, of=4)
    refused = other.communicate(timeout=LONG)[1]
    until(lambda: taken.poll() is not None or again.poll() is not None)
    participants.start(2, "barrier=a", "finish", of=3)
    ends = participants.ended()
    assert other.returncode == 2
    assert "--processes=4 here, and 3 in the first process" in refused
    assert sorted(end.status for end in ends[1:3]) == [0, 2]  # whoever came second
    (told,) = [end.line for end in ends[1:3] if end.status]
    assert "--process=1: process 1 at 127.0.0.1 (" in told
    assert ends[0].status == ends[4].status == 0


def test_strangers_at_the_port_harm_nothing(participants):
    participants.start(0, "barrier=a", "finish")
    until(lambda: reachable(participants.port))
    http, nested = b"GET / HTTP/1.1\r\n\r\n", b"[" * 60_000 + b"\n"
    processes = b'{"process": 1, "processes": ' + b"[" * 900 + b"]" * 900 + b"}\n"
    for said in (http, nested, processes, b"x" * 200_000, b'{"failed": "x"}\n', b"[1]\n", b""):
        with (
            socket.create_connection(("127.0.0.1", participants.port)) as stranger,
            suppress(OSError),
        ):
            stranger.sendall(said)
    participants.start(1, "barrier=a", "finish")
    assert [end.status for end in participants.ended()] == [0, 0]


def reachable(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_one_that_dies_before_the_meeting_begins_may_come_again(participants):
    first = participants.start(0, "barrier=a", "finish", of=3)
    lost = participants.start(1, "barrier=a", of=3)
    time.sleep(1.0)
    lost.kill()
    lost.communicate()
    participants.running = [first]
    for process in (1, 2):
        participants.start(process, "barrier=a", "finish", of=3)
    assert [end.status for end in participants.ended()] == [0, 0, 0]


@pytest.mark.parametrize("lost", [0, 1])
def test_one_that_is_killed_ends_the_others_at_once(participants, lost):
    for process in range(3):
        acts = ["barrier=a", "kill" if process == lost else "barrier=b", "finish"]
        participants.start(process, *acts, of=3)
    ends = participants.ended()
    assert ends[lost].status == -signal.SIGKILL
    for end in ends[:lost] + ends[lost + 1 :]:
        assert end.status == 1
        assert f"process {lost} at 127.0.0.1" in end.line
        assert "is gone without a word" in end.line
        assert "resumes the run" in end.line


@pytest.mark.parametrize("failing", [0, 1])
def test_the_error_of_one_is_told_by_all(participants, failing):
    for process in range(3):
        acts = ["barrier=a", "fail=no space" if process == failing else "barrier=b", "finish"]
        participants.start(process, *acts, of=3)
    ends = participants.ended()
    assert [end.status for end in ends] == [3, 3, 3]
    for end in ends[:failing] + ends[failing + 1 :]:
        assert f"ctrak: process {failing} at 127.0.0.1 (" in end.line
        assert end.line.endswith("ended: no space")


def test_one_that_makes_no_progress_is_named(participants):
    participants.start(0, "barrier=stage", "finish", of=3, barrier=3)
    participants.start(1, "barrier=stage", "finish", of=3, barrier=3)
    stopped = participants.start(2, "stop", "barrier=stage", of=3, barrier=3)
    ends = [
        Ended(p.returncode, *s)
        for p in participants.running[:2]
        if (s := p.communicate(timeout=LONG))
    ]
    stopped.kill()
    for end in ends:
        assert end.status == 1
        assert "barrier 'stage', after " in end.err
        assert "waiting for process 2 at 127.0.0.1 (" in end.err
        assert "barrier 'stage': no sign of progress from process 2 at 127.0.0.1 (" in end.line
        assert "for 3 s (--barrier-timeout)" in end.line


def test_a_first_process_that_hangs_is_named(participants):
    first = participants.start(0, "barrier=a", "stop", barrier=2)
    participants.start(1, "barrier=a", "barrier=stage", barrier=2)
    said = participants.running[1].communicate(timeout=LONG)
    first.kill()
    end = Ended(participants.running[1].returncode, *said)
    assert end.status == 1
    # It may hang before the other has heard that the first barrier is passed.
    assert re.search(r"barrier '(a|stage)': process 0 at 127\.0\.0\.1", end.line)
    assert "has said nothing for 2 s (--barrier-timeout)" in end.line


def test_one_that_works_for_long_is_waited_for(participants):
    participants.start(0, "barrier=stage", "finish", barrier=3)
    participants.start(1, "work=8", "barrier=stage", "finish", barrier=3)
    assert [end.status for end in participants.ended()] == [0, 0]


def test_processes_at_different_barriers_are_told(participants):
    participants.start(0, "barrier=featurized", "finish")
    participants.start(1, "barrier=scored", "finish")
    for end in participants.ended():
        assert end.status == 1
        assert "the processes do different things: process 0 at 127.0.0.1 (" in end.line
        assert "at 'scored'" in end.line
