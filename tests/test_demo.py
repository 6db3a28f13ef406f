"""The whole demo in its smoke size, from the command line, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stvgkit.cli import main
from stvgkit.demo import METRICS, ROWS

pytestmark = pytest.mark.slow


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "stvgkit", "demo", "--out", str(out), "--seed", "0", "--smoke"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(command(out), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done


def test_metrics_have_every_row_and_column(undisturbed):
    out, _ = undisturbed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["seed"] == 0 and metrics["protocol"] == "default"
    assert list(metrics["rows"]) == list(ROWS)
    for row in metrics["rows"].values():
        assert set(row) == {*METRICS, "unparsed", "samples", "seconds"}
        assert all(0 <= row[name] <= 1 for name in METRICS)
    assert metrics["rows"]["centre"]["m_vIoU"] > 0
    assert metrics["rows"]["base"]["unparsed"] == metrics["rows"]["base"]["samples"]


def test_the_table_is_printed(undisturbed):
    _, done = undisturbed
    assert all(name in done.stdout for name in (*ROWS.values(), *METRICS, "unparsed", "seconds"))


def test_checkpoints_logs_and_completions_are_there(undisturbed):
    out, _ = undisturbed
    for step, weights in (("sft", "model"), ("grpo", "adapter_model")):
        assert (out / step / f"{weights}.safetensors").is_file()
        assert json.loads((out / step / "log.json").read_text())
        assert len((out / step / "predictions.jsonl").read_text().splitlines()) == 16
    groups = [json.loads(line) for line in (out / "grpo" / "groups.jsonl").read_text().splitlines()]
    assert groups and all(len(group["completions"]) == 8 for group in groups)


def test_report_plays_clips_and_asks_for_nothing(undisturbed):
    out, _ = undisturbed
    page = (out / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 12
    assert all(name in page for name in ROWS.values())
    assert "<script src" not in page and "<link" not in page


def test_killed_and_started_again_gives_the_same_metrics(undisturbed, tmp_path):
    expected = json.loads((undisturbed[0] / "metrics.json").read_text())
    out = tmp_path / "out"
    for marker in ("base/predictions.jsonl", "sft/checkpoint-*", "grpo/checkpoint-*"):
        process = subprocess.Popen(
            command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while not list(out.glob(marker)) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(out), check=True, capture_output=True, timeout=600)
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    for name, row in rows.items():
        for metric in (*METRICS, "unparsed", "samples"):
            assert row[metric] == expected["rows"][name][metric], (name, metric)


class TestBadInput:
    def test_a_folder_of_another_run_is_refused(self, undisturbed, capsys):
        assert main(["demo", "--out", str(undisturbed[0]), "--seed", "1", "--smoke"]) == 2
        error = capsys.readouterr().err
        assert "seed is 0 there and 1 here" in error and error.count("\n") == 1

    def test_an_unwritable_folder_is_one_line(self, tmp_path, capsys):
        blocked = tmp_path / "file"
        blocked.write_text("")
        assert main(["demo", "--out", str(blocked / "out"), "--smoke"]) == 2
        error = capsys.readouterr().err
        assert str(blocked) in error and error.count("\n") == 1
