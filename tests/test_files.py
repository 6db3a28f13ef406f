"""Writing to files, links, devices and pipes; runs that are killed; readers that have gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stvgkit.files import replacing, write_json

CLIP = Path(__file__).parent.parent / "data_samples" / "opencv"
INFO = ["info", str(CLIP / "box.mp4")]
WRITES = """
import sys, time
from stvgkit.files import replacing
with replacing(sys.argv[1]) as out:
    out.write("half")
    out.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_link_stays_and_its_target_is_written(tmp_path):
    target, link = tmp_path / "deep" / "real.json", tmp_path / "link.json"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    write_json(link, {"a": 1})
    assert link.is_symlink() and json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in target.parent.iterdir()] == ["real.json"]


def test_a_link_to_nothing_yet_makes_its_target(tmp_path):
    (tmp_path / "link.json").symlink_to("later.json")
    write_json(tmp_path / "link.json", [])
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "later.json").is_file()


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_json(tmp_path / "pipe", 3)
    reader.join(10)
    assert got == ["3\n"] and (tmp_path / "pipe").is_fifo()


def test_a_device_stays_a_device():
    write_json("/dev/null", {})
    assert Path("/dev/null").is_char_device()


def test_a_dash_is_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_json("-", {"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1} and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["no/folder", "folder", "/dev/full", "/proc/no"])
def test_an_error_names_the_target(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "no").touch()
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / name, {})
    assert str(caught.value.filename) == str(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "no"]


def test_a_name_in_another_encoding_is_written_as_json_reads_it(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    write_json(tmp_path / "a.json", name)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == name


def started(path: Path) -> subprocess.Popen:
    run = subprocess.Popen([sys.executable, "-c", WRITES, str(path)], stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"writing\n"
    return run


def test_what_a_killed_run_left_goes_with_the_next_write_but_not_what_a_living_one_holds(tmp_path):
    path = tmp_path / "out.json"
    run = started(path)
    write_json(path, 1)
    held = [part for part in tmp_path.iterdir() if part != path]
    assert len(held) == 1 and held[0].read_text() == "half"
    run.kill()
    run.communicate()
    assert held[0].exists() and path.read_text() == "1\n"
    write_json(path, 2)
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "2\n"


def test_a_body_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as out:
        out.write(str(1 / 0))
    assert not list(tmp_path.iterdir())


def stvgkit(*arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stvgkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_file_is_written_although_nobody_reads_standard_output(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    page = tmp_path / "page.html"
    command = [sys.executable, "-u", "-m", "stvgkit", "play", "--video", CLIP / "box.mp4"]
    code = subprocess.run([*command, "--out", page], stdout=writing, stderr=writing).returncode
    os.close(writing)
    assert code == 0 and page.read_text().startswith("<!doctype html>")


def test_a_full_disk_is_told_in_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "stvgkit", *INFO]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 2 and run.stderr == "stvgkit: No space left on device\n"


def test_a_name_that_the_terminal_does_not_know_is_printed_all_the_same(tmp_path):
    (tmp_path / "klip_ж.mp4").symlink_to(CLIP / "box.mp4")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = stvgkit("info", tmp_path / "klip_ж.mp4", env=environment)
    assert run.returncode == 0 and r"klip_\u0436.mp4" in run.stdout


def test_a_run_that_is_asked_to_end_ends_as_with_ctrl_c():
    code = "import time\nfrom stvgkit.streams import lasting_output\n"
    code += "with lasting_output():\n  print('ready', flush=True)\n  time.sleep(60)"
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout.readline() == b"ready\n"
    run.send_signal(signal.SIGTERM)
    assert b"KeyboardInterrupt" in run.communicate()[1]
