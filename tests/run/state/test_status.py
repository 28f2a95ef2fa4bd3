"""``ctrak status``: a run in another process, from its folder."""

import json
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from ctrak_jax import cli
from ctrak_jax.errors import OutOfTime, UsageError
from ctrak_jax.progress import Overall, Process, beacon, meter, tracked
from ctrak_jax.progress.beacon import ALONE, Beacon, file_of
from ctrak_jax.progress.board import Board
from ctrak_jax.run.state.logs import earlier, read_log, seconds_of, stage_of
from ctrak_jax.run.state.status import describe
from ctrak_jax.terminal.status import text

STAGES = ("train", "featurize", "report")


def at_work(out: Path, process: Process = ALONE, done: int = 0) -> Board:
    """A process in its second stage, with a piece of ``done`` items of ten, has written its
    state."""
    board = Board()
    board.overall = Overall(STAGES)
    board.overall.begin("featurize")
    board.title = "featurize"
    count = board.open("featurize", 10)
    if done:
        time.sleep(0.02)
        count.advance(done)
    Beacon(out, "run", process, board).write("running")
    return board


def log_line(**fields: object) -> str:
    line = {
        "stage": "train",
        "status": "done",
        "start": "2026-01-01T00:00:00+00:00",
        "end": "2026-01-01T00:01:00+00:00",
        "seconds": 60.0,
        "compile_seconds": 20.0,
        "process": 0,
        "devices": "2 x cpu",
    }
    return json.dumps(line | fields) + "\n"


def test_a_run_at_work(tmp_path):
    at_work(tmp_path, done=4)
    (tmp_path / "log.jsonl").write_text(log_line())
    found = describe(tmp_path)
    assert found["state"] == "running"
    assert (found["number"], found["stage"], found["part"]) == (2, "featurize", "featurize")
    assert (found["done"], found["total"], found["fraction"]) == (4, 10, 0.4)
    assert found["left"] == pytest.approx(6 / found["rate"], abs=0.5)
    assert 0 <= found["piece_age"] < 30
    assert [line["stage"] for line in found["finished"]] == ["train"]
    assert found["unknown"] == ["report"]
    said = text(found)
    assert "stage 2 of 3, featurize: 4/10, 40%" in said
    assert "without report" in said
    assert "stages: train 60 s" in said


def test_left_goes_down_with_the_age_of_the_state_but_no_further_than_states_are_apart(tmp_path):
    at_work(tmp_path, done=4)
    file = file_of(tmp_path, "run", 0)
    state = json.loads(file.read_text()) | {"left": 50.0}
    file.write_text(json.dumps(state))
    at = state["written"]
    assert describe(tmp_path, at)["left"] == 50.0
    assert describe(tmp_path, at + 4)["left"] == pytest.approx(46.0)
    assert describe(tmp_path, at + 40)["left"] == pytest.approx(50.0 - beacon.MOST)


def test_before_the_first_piece_nothing_is_told(tmp_path):
    at_work(tmp_path)
    found = describe(tmp_path)
    assert found["rate"] is found["left"] is found["left_in_all"] is found["piece_age"] is None
    assert "time left unknown" in text(found)


def test_a_process_without_a_sign_is_silent_and_one_without_pieces_stalls(tmp_path):
    """Also from another machine, which cannot ask for the process."""
    at_work(tmp_path, done=4)
    file = file_of(tmp_path, "run", 0)
    state = json.loads(file.read_text()) | {"host": "elsewhere", "pid": 2**30}
    file.write_text(json.dumps(state))
    at = state["written"]
    assert describe(tmp_path, at + 30)["state"] == "running"
    assert describe(tmp_path, at + 300)["state"] == "silent"
    file.write_text(json.dumps(state | {"written": at + 300}))
    assert describe(tmp_path, at + 300)["state"] == "stalled"
    file.write_text(json.dumps(state | {"written": at + 300, "compiling_for": 290}))
    assert describe(tmp_path, at + 300)["state"] == "running"
    file.write_text(json.dumps(state | {"written": at + 300, "piece_seconds": 100.0}))
    assert describe(tmp_path, at + 300)["state"] == "running", "its pieces are long"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "done"),
        (OutOfTime("time"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (ValueError("broken"), "failed"),
    ],
)
def test_every_end_is_written(tmp_path, error, state):
    raises = pytest.raises(type(error)) if error else nullcontext()
    with raises, tracked(tmp_path, "x", Overall(("x",))):
        if error:
            raise error
    found = describe(tmp_path)
    assert found["state"] == state
    assert found["error"] == ("broken" if state == "failed" else None)


def test_several_processes_add_up_and_the_lost_one_is_named(tmp_path):
    at_work(tmp_path, Process(0, 2), done=4)
    assert "1 of 2 processes have left no state" in text(describe(tmp_path))
    at_work(tmp_path, Process(1, 2), done=2)
    found = describe(tmp_path)
    assert (found["done"], found["total"], found["state"]) == (6, 20, "running")
    rates = [json.loads(file_of(tmp_path, "run", n).read_text())["rate"] for n in (0, 1)]
    assert found["rate"] == pytest.approx(sum(rates))
    file = file_of(tmp_path, "run", 1)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": 2**30}))
    found = describe(tmp_path)
    assert found["state"] == "killed"
    assert [one["state"] for one in found["processes"]] == ["running", "killed"]
    assert "process 1" in text(found)


def test_a_command_of_fewer_processes_forgets_the_others(tmp_path):
    for number in range(3):
        at_work(tmp_path, Process(number, 3))
    with tracked(tmp_path, "run", Overall(STAGES)):
        pass
    assert not file_of(tmp_path, "run", 1).exists()
    assert len(describe(tmp_path)["processes"]) == 1


KILLED = """
import sys, time
from pathlib import Path
from ctrak_jax.progress import Overall, meter, tracked
with tracked(Path(sys.argv[1]), "run", Overall(("train", "report"))) as overall:
    overall.begin("train")
    with meter("train", 100) as bar:
        bar.advance(1)
        print("begun", flush=True)
        time.sleep(600)
"""


def test_a_killed_process(tmp_path):
    """Its file is there within a few seconds of the piece; the kill is seen at once."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            end = time.monotonic() + 60
            while describe(tmp_path)["done"] != 1 and time.monotonic() < end:
                time.sleep(0.2)
            assert describe(tmp_path)["state"] == "running"
            assert describe(tmp_path)["done"] == 1
        finally:
            process.send_signal(signal.SIGKILL)
    found = describe(tmp_path)
    assert found["state"] == "killed"
    assert "was killed" in text(found)


def test_status_changes_no_file(tmp_path, capsys):
    at_work(tmp_path, done=4)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    tmp_path.chmod(0o555)
    try:
        assert cli.main(["status", str(tmp_path)]) == 0
        assert cli.main(["status", str(tmp_path), "--json"]) == 0
    finally:
        tmp_path.chmod(0o755)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["done"] == 4


def test_watch_ends_with_the_run(tmp_path, capsys):
    with tracked(tmp_path, "run", Overall(STAGES)):
        pass
    assert cli.main(["status", str(tmp_path), "--watch", "0.01"]) == 0
    assert "is done" in capsys.readouterr().out


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    with pytest.raises(UsageError):
        describe(tmp_path / "missing")
    assert cli.main(["status", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_of_an_older_version_has_its_lines(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text(log_line() + '{"cut sho')
    assert cli.main(["status", str(tmp_path)]) == 0
    assert "train 60 s" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_stops_no_command(tmp_path):
    (tmp_path / ".progress").write_text("in the way")
    with tracked(tmp_path, "run", Overall(STAGES)) as overall, meter("train", 1) as bar:
        overall.begin("train")
        bar.advance(1)


def test_titles_belong_to_stages():
    titles = ["featurize (without color)", "query images", "ensemble", "abc scores"]
    assert [stage_of(title) for title in titles] == ["featurize", "query", "score", "abc"]


def test_seconds_of_a_stage_are_those_of_its_parts_without_compilation(tmp_path):
    (tmp_path / "controls" / "x").mkdir(parents=True)
    (tmp_path / "log.jsonl").write_text(
        log_line(stage="featurize", status="interrupted", seconds=30.0)
        + log_line(stage="featurize", seconds=50.0)
        + log_line(stage="featurize", seconds=50.0, process=1)
        + log_line(stage="score", status="failed")
        + log_line(stage="evaluate", devices="1 x cpu")
        + log_line(stage="report", devices="4 x cpu")
    )
    (tmp_path / "controls" / "x" / "log.jsonl").write_text(
        log_line(stage="featurize (x)", seconds=25.0)
    )
    found = seconds_of(read_log(tmp_path), "2 x cpu")
    assert found == {"featurize": 10.0 + 30.0 + 5.0, "evaluate": 40.0}


def test_an_earlier_run_has_the_same_settings(tmp_path):
    config = "name: a\nmodel:\n  width: 8\n"
    for name, width in (("other", 9), ("same", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"name: {name}\nmodel:\n  width: {width}\n")
        (tmp_path / name / "log.jsonl").write_text(log_line(seconds=20.0 + width))
    assert earlier(tmp_path / "new", config, "2 x cpu") == {"train": 8.0}
    assert earlier(tmp_path / "same", config, "2 x cpu") == {}, "not itself"
    assert earlier(tmp_path / "new", config, "1 x gpu") == {}
