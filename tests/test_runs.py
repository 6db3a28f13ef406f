"""Whose a run's folder is: its own run goes on, another's is refused, and no run ends unstarted."""

import json
import shutil
import warnings

import pytest

from stvgkit.cli import main
from stvgkit.datasets.shapes import write_shapes
from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat

SFT = ["--per_device_train_batch_size", "2", "--max_steps", "2", "--save_steps", "1"]
SFT += ["--gradient_checkpointing", "false", "--report_to", "none", "--disable_tqdm", "true"]
SFT += ["--save_total_limit", "9"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {split: write_shapes(folder, split, 4) for split in ("train", "test")}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished run of two steps, and what starts it."""
    out = tmp_path_factory.mktemp("run") / "sft"
    argv = ["sft", "--model", "tiny", "--data", str(data["train"]), "--out", str(out), *SFT]
    assert main(argv) == 0
    return out, argv


def test_a_finished_run_says_that_nothing_was_done(trained, capsys):
    out, argv = trained
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert f"{out} holds this very run, finished: nothing was done" in said and "wrote" not in said
    assert (out / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--learning_rate", "0.5"], "learning_rate is 2e-05 there and 0.5 here"),
        (["--max_steps", "3"], "max_steps is 2 there and 3 here"),
        (["--fps", "4"], "fps is 2.0 there and 4.0 here"),
        (["--per_device_train_batch_size", "1"], "batch is 2 there and 1 here"),
        (["--think_noise", "0.3"], "think_noise is 0.1 there and 0.3 here"),
        (["--use_peft", "true"], "adapter is None there"),
        (["--seed", "7"], "seed is 42 there and 7 here"),
    ],
)
def test_a_folder_of_other_settings_is_refused(trained, change, named, capsys):
    out, argv = trained
    assert main([*argv, *change]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"stvgkit: {out} holds another run: ") and named in error


def test_a_folder_of_other_data_is_refused(trained, data, capsys):
    out, argv = trained
    assert main([*argv, "--data", str(data["test"])]) == 2
    assert "data is " in capsys.readouterr().err
    assert main(["grpo", *argv[1:], "--num_generations", "2"]) == 2
    assert "method is sft there and grpo here" in capsys.readouterr().err


def test_how_a_batch_is_divided_and_what_is_logged_may_change(trained):
    _, argv = trained
    divided = ["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"]
    assert main([*argv, *divided, "--logging_steps", "5"]) == 0


def test_weights_that_have_changed_since_are_another_model(trained, data, tmp_path, capsys):
    base = tmp_path / "base"
    shutil.copytree(trained[0], base)
    argv = ["sft", "--model", str(base), "--data", str(data["train"]), *SFT]
    argv += ["--out", str(tmp_path / "next")]
    assert main(argv) == 0
    base.rename(tmp_path / "moved")  # where it lies plays no part
    assert main([*argv, "--model", str(tmp_path / "moved")]) == 0
    base = tmp_path / "moved"
    shutil.copy(base / "checkpoint-1" / "model.safetensors", base)
    (tmp_path / "moved").rename(tmp_path / "base")
    assert main(argv) == 2
    assert f"the weights of {tmp_path / 'base'} have changed since" in capsys.readouterr().err


def test_a_folder_that_does_not_say_whose_it_is_is_refused(trained, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(trained[0], old)
    (old / "run.json").unlink()
    assert main([*trained[1], "--out", str(old)]) == 2
    assert "which does not say of what" in capsys.readouterr().err
    (old / "run.json").write_text("{")
    assert main([*trained[1], "--out", str(old)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_every_checkpoint_is_asked_in_the_form_it_learned(trained, tmp_path):
    """Beside the weights; one folder up where that is missing; said where both are."""
    from stvgkit.training.models import load

    out, learned = trained[0], ClipFormat.load(trained[0])
    for step in (1, 2):
        assert ClipFormat.load(out / f"checkpoint-{step}") == learned
    copy = tmp_path / "sft"
    shutil.copytree(out, copy)
    (copy / "checkpoint-1" / ClipFormat.FILE).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(str(copy / "checkpoint-1")).clip_format == learned
    (copy / ClipFormat.FILE).unlink()
    with pytest.warns(UserWarning, match="checkpoint-1 has no clip_format.json: .* assumed: space"):
        assert load(str(copy / "checkpoint-1")).clip_format != learned


def test_grpo_says_how_many_prompts_a_batch_takes(data, tmp_path, capsys):
    argv = ["grpo", "--model", "tiny", "--data", str(data["train"]), "--out", str(tmp_path), *SFT]
    argv += ["--num_generations", "2", "--per_device_train_batch_size", "10"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "a batch of GRPO takes 5 prompts" in error and "there are 4: give at least 5" in error
    assert not (tmp_path / "log.json").exists()
    argv += ["--per_device_train_batch_size", "8", "--max_completion_length", "2"]
    assert main([*argv, "--max_steps", "1"]) == 0
    log = json.loads((tmp_path / "log.json").read_text())
    assert [line["step"] for line in log if "reward" in line] == [1]


@pytest.mark.parametrize(
    "none",
    [
        ["--max_steps", "-1", "--num_train_epochs", "0"],
        ["--dataloader_drop_last", "true", "--per_device_train_batch_size", "9"],
    ],
)
def test_a_run_without_a_step_is_not_finished(data, tmp_path, none, capsys):
    argv = ["sft", "--model", "tiny", "--data", str(data["train"]), "--out", str(tmp_path), *SFT]
    assert main([*argv, *none]) == 2
    assert "not one step was taken" in capsys.readouterr().err
    assert not (tmp_path / "log.json").exists()
    assert not (tmp_path / "model.safetensors").exists()


def test_a_run_that_never_took_a_step_binds_nobody(data, tmp_path, capsys):
    argv = ["sft", "--model", "tiny", "--data", str(data["train"]), "--out", str(tmp_path), *SFT]
    empty = ["--dataloader_drop_last", "true", "--per_device_train_batch_size", "9"]
    assert main([*argv, *empty]) == 2
    assert main(argv) == 0


def test_one_step_is_claimed_in_python_too(trained):
    from stvgkit.training.runs import claim

    with pytest.raises(InputError, match="holds another run: method is sft there and grpo here"):
        claim(trained[0], {"method": "grpo"}, begun=True)
