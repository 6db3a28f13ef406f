"""The line that a person watches: in its place on a terminal, now and then in a log."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import sys
import termios

import pytest

from stvgkit import progress
from stvgkit.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the line believes in; call it to let some pass."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_log_gets_a_plain_line_now_and_then_and_the_last(clock, capsys):
    with Progress("GRPO", 30) as line:
        for step in range(1, 31):
            clock(4)
            line.at(step, f"reward {step / 10:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "GRPO 1/30, 01:56 left, reward 0.10"
    assert lines[1] == "GRPO 4/30, 01:44 left, reward 0.40"
    assert lines[-1] == "GRPO 30/30, 00:00 left, reward 3.00"
    assert len(lines) == 11 and not any("\r" in text for text in lines)


def test_time_left_does_not_count_what_an_earlier_run_did(clock, capsys):
    line = Progress("SFT", 100, done=90)
    clock(10)
    line.at(95)
    assert capsys.readouterr().err == "SFT 95/100, 00:10 left\n"


def test_a_phase_without_work_or_one_that_is_hidden_says_nothing(capsys):
    for settings in ({"total": 0}, {"total": 3, "shown": False}):
        with Progress("clips", **settings) as line:
            for _ in range(settings["total"]):
                line.step()
    assert capsys.readouterr().err == ""


def on_a_terminal(monkeypatch, columns: int) -> str:
    """What three steps write on a terminal of this width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress("GRPO", 3) as line:
            for step in range(1, 4):
                line.at(step, f"parsed {step}0%")
        terminal.flush()
        seen = ""
        while select.select([leader], [], [], 0.5)[0]:  # it comes in pieces
            seen += os.read(leader, 10_000).decode()
    os.close(leader)
    return seen


def test_a_terminal_gets_one_line_drawn_in_its_place(monkeypatch):
    seen = on_a_terminal(monkeypatch, 100)
    assert seen.count("\n") == 1 and seen.endswith("\n")  # only where the line ends
    assert re.search(r"\rGRPO 3/3 \|.*left, parsed 30%", seen)


def test_a_terminal_without_a_width_gets_plain_lines(monkeypatch):
    assert "GRPO 3/3, 00:00 left, parsed 30%" in on_a_terminal(monkeypatch, 0)


def test_training_shows_one_line_a_phase_and_no_dictionaries(tmp_path, monkeypatch):
    pytest.importorskip("trl")
    from stvgkit.datasets import read_prepared
    from stvgkit.datasets.shapes import write_shapes
    from stvgkit.rows import plan_row
    from stvgkit.training.models import TINY, load
    from stvgkit.training.trainers import grpo, sft

    grounder = load(TINY)
    samples = read_prepared(write_shapes(tmp_path, "train", 2))
    rows = [plan_row(sample, grounder.clip_format) for sample in samples]
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(sys, "stdout", written)
    settings = {"per_device_train_batch_size": 2, "max_steps": 2, "report_to": "none"}
    sft(grounder, rows, tmp_path / "sft", **settings)
    settings |= {"num_generations": 2, "max_completion_length": 4}
    grpo(grounder, rows, tmp_path / "grpo", **settings)
    lines = written.getvalue().splitlines()
    assert "{" not in written.getvalue() and "Warning" not in written.getvalue()
    assert re.fullmatch(r"SFT 1/2, \d\d:\d\d left, loss \d\.\d+, tokens right \d+%", lines[0])
    assert re.fullmatch(r"SFT 2/2, 00:00 left, loss .*", lines[1])
    told = "reward 0.00, parsed 0%, consistency 0.00, temporal 0.00, spatial 0.00, think 0.00"
    assert re.fullmatch(rf"GRPO 1/2, \d\d:\d\d left, {told}", lines[2])
    assert len(lines) == 4
