"""Kills, a full disk, a loss that is not a number, a video that breaks: clear, and nothing lost."""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import write_shapes
from stvgkit.errors import InputError
from stvgkit.rows import plan_rows
from stvgkit.tiny.learning import CLIP_FORMAT

STEPS = dict(report_to="none", disable_tqdm=True, per_device_train_batch_size=2)
STEPS |= dict(gradient_checkpointing=False, save_steps=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return list(read_prepared(write_shapes(tmp_path_factory.mktemp("shapes"), "train", 6)))


@pytest.fixture()
def grounder():
    from stvgkit.training.models import load

    return load("tiny", dtype="float32")


def opens(checkpoint) -> bool:
    """Whether a checkpoint can be loaded and says where it stopped."""
    from stvgkit.training.models import load

    load(str(checkpoint), dtype="float32")
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return state["global_step"] == int(checkpoint.name.rpartition("-")[2])


@pytest.mark.slow
def test_killed_runs_end_like_the_undisturbed_one(root, tmp_path):
    """Two kills each; `benchmarks/faults.py` does ten.

    In a process of its own: it forks, and a fork of one in which torch has computed (OpenMP's
    threads are running) waits for ever.
    """
    script, found = root / "benchmarks" / "faults.py", tmp_path / "found.json"
    argv = [sys.executable, str(script), "--kills", "2", "--json", str(found)]
    subprocess.run(argv, check=True, timeout=600)
    assert [(r["run"], r["kills"], r["equal"]) for r in json.loads(found.read_text())] == [
        ("sft", 2, True),
        ("grpo", 2, True),
        ("predict", 2, True),
    ]


def test_a_loss_that_is_not_a_number_stops_before_it_is_saved(samples, grounder, tmp_path):
    from transformers import TrainerCallback

    from stvgkit.training.trainers import sft

    class Spoil(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 2:
                with torch.no_grad():
                    next(model.model.language_model.layers[0].parameters()).fill_(float("nan"))

    rows = plan_rows(samples, CLIP_FORMAT)
    with pytest.raises(InputError, match=r"is nan at step 3 .*checkpoint-\d is the last good"):
        sft(grounder, rows, tmp_path, callbacks=[Spoil()], max_steps=5, save_total_limit=9, **STEPS)
    assert not (tmp_path / "checkpoint-3").exists() and not (tmp_path / "log.json").exists()
    assert opens(tmp_path / "checkpoint-1")


def test_a_full_disk_leaves_the_last_checkpoint_whole(samples, grounder, tmp_path):
    """A limit on the size of a file, set after the first checkpoint, stands for the full disk."""
    from transformers import TrainerCallback

    from stvgkit.training.runs import last_checkpoint
    from stvgkit.training.trainers import sft

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Fill(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    rows = plan_rows(samples, CLIP_FORMAT)
    try:
        with pytest.raises((InputError, OSError)) as caught:
            sft(grounder, rows, tmp_path, callbacks=[Fill()], max_steps=3, **STEPS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value, OSError) or "free some space" in str(caught.value)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert opens(tmp_path / "checkpoint-1")
    from stvgkit.training.models import load

    sft(load("tiny", dtype="float32"), rows, tmp_path, max_steps=3, **STEPS)
    log = json.loads((tmp_path / "log.json").read_text())
    assert [line["step"] for line in log if "loss" in line] == [1, 2, 3]


def test_a_clip_that_breaks_is_unparsed_with_the_reason_and_asked_again(
    samples, grounder, tmp_path
):
    from stvgkit.predictions import read_completions
    from stvgkit.training.evaluation import predict, score

    rows, out = plan_rows(samples, CLIP_FORMAT), tmp_path / "p.jsonl"
    broken = tmp_path / samples[-1].video.name
    broken.write_bytes(samples[-1].video.read_bytes()[:300])
    damaged = [*rows[:-1], rows[-1] | {"video": str(broken)}]
    settings = dict(batch_size=2, max_new_tokens=2, progress=False)
    predict(grounder, damaged, out, **settings)
    fault = read_completions(out)[samples[-1].id].fault
    assert fault.kind == "the clip cannot be read" and str(broken) in fault.said
    report = score(out, samples)
    assert report.samples == len(samples) and report.missing == 0
    assert report.reasons["the clip cannot be read"]["count"] == 1
    assert "not parsed 1: the clip cannot be read (such as shapes-train-" in report.table()
    predict(grounder, rows, out, **settings)
    assert "the clip cannot be read" not in score(out, samples).reasons
    assert len(out.read_text().splitlines()) == len(rows)


def broken_rows(samples, folder, *which):
    """The rows of samples, those of some numbers with a clip that ends in its header."""
    rows = plan_rows(samples, CLIP_FORMAT)
    for number in which:
        clip = folder / samples[number].video.name
        clip.write_bytes(samples[number].video.read_bytes()[:300])
        rows[number] = rows[number] | {"video": str(clip)}
    return rows


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_another_row_takes_the_place_of_a_clip_that_breaks(samples, grounder, tmp_path, method):
    from stvgkit.training import trainers

    rows = broken_rows(samples * 2, tmp_path, 1)
    rows = [row | {"id": f"{i}"} for i, row in enumerate(rows)]
    settings = STEPS | dict(per_device_train_batch_size=4, save_steps=99, num_train_epochs=1)
    if method == "grpo":
        settings |= dict(num_generations=2, max_completion_length=2)
    with pytest.warns(RuntimeWarning, match=r"1 of 12 clips cannot be read, .*: 1 \("):
        getattr(trainers, method)(grounder, rows, tmp_path / "out", **settings)
    if method == "grpo":
        lines = (tmp_path / "out" / "groups.jsonl").read_text().splitlines()
        ids = [json.loads(line)["id"] for line in lines]
        assert sorted(ids, key=int) == ["0", "2", "2", *map(str, range(3, 12))]


def test_training_ends_where_more_than_one_clip_in_ten_breaks(samples, grounder, tmp_path):
    from stvgkit.training.trainers import sft

    rows = broken_rows(samples * 2, tmp_path, 1, 3)
    with (
        pytest.warns(RuntimeWarning, match="1 of 12 clips"),
        pytest.raises(InputError, match=r"2 of 12 clips cannot be read, more than one in ten: .*"),
    ):
        sft(grounder, rows, tmp_path / "out", num_train_epochs=1, **STEPS)
    assert not (tmp_path / "out" / "log.json").exists()


def test_where_every_clip_breaks_there_is_no_score(samples, grounder, tmp_path):
    from stvgkit.training.evaluation import predict

    rows = plan_rows(samples, CLIP_FORMAT)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    rows = [row | {"video": str(broken)} for row in rows]
    with pytest.raises(InputError, match="not one of 6 samples has an answer: the clip cannot be"):
        predict(grounder, rows, tmp_path / "p.jsonl", max_new_tokens=2, progress=False)


def test_a_broken_video_is_left_out_on_planning(samples, tmp_path):
    from stvgkit.datasets import SkipReport

    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    report = SkipReport()
    rows = plan_rows([samples[0], replace(samples[1], video=broken)], CLIP_FORMAT, report)
    assert len(rows) == 1 and "broken video" in str(report)
