"""Two processes under `accelerate launch`: nothing twice, nothing lost, the same as with one."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stvgkit.datasets.shapes import write_shapes
from stvgkit.training.recipes import FOLDER

pytestmark = pytest.mark.slow
TRAIN, TEST = 16, 7  # the latter does not divide by two


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run(*argv, processes: int = 1) -> None:
    launch(["-m", "stvgkit", *map(str, argv)], processes)


def launch(argv: list[str], processes: int) -> None:
    command = [sys.executable]
    if processes > 1:
        config = FOLDER / "accelerate" / f"cpu-{processes}.yaml"
        command += ["-m", "accelerate.commands.launch", "--config_file", str(config)]
        command += ["--main_process_port", free_port()]
    done = subprocess.run([*command, *argv], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": write_shapes(folder, "train", TRAIN),
        "test": write_shapes(folder, "test", TEST),
    }


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """SFT and then GRPO on two processes."""
    out = tmp_path_factory.mktemp("two")
    common = ["--data", data["train"], "--report_to", "none", "--dtype", "float32"]
    sft = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--save_steps", "1"]
    run("sft", "tiny-sft", *common, *sft, "--out", out / "sft", processes=2)
    grpo = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--num_generations", "4"]
    grpo += ["--max_completion_length", "16", "--model", out / "sft"]
    run("grpo", "tiny-grpo", *common, *grpo, "--out", out / "grpo", processes=2)
    return out


def logged(folder, name: str) -> list[float]:
    log = json.loads((folder / "log.json").read_text())
    return [line[name] for line in log if "loss" in line]


def test_sft_learns_the_same_on_two_processes_as_on_one(data, trained, tmp_path):
    from safetensors.torch import load_file

    # In two halves, each with the mean over its own tokens: that is what two processes average.
    one = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--out", tmp_path / "one"]
    one += ["--gradient_accumulation_steps", "2"]
    one += ["--data", data["train"], "--report_to", "none", "--dtype", "float32"]
    run("sft", "tiny-sft", *one)
    ours, alone = trained / "sft", tmp_path / "one"
    for name in ("loss", "grad_norm"):
        assert logged(ours, name) == pytest.approx(logged(alone, name), rel=1e-4)
    assert logged(ours, "num_tokens") == logged(alone, "num_tokens")
    two, one = (load_file(f / "model.safetensors") for f in (trained / "sft", tmp_path / "one"))
    assert two.keys() == one.keys()
    # Adam's first steps have the learning rate's size whatever the gradient's, so a sum in
    # another order may flip single weights; the two runs agree in nearly all of them.
    near = [float(((two[k] - one[k]).abs() < 1e-4).float().mean()) for k in one]
    assert sum(near) / len(near) > 0.98


def test_grpo_logs_every_group_once(trained):
    groups = [json.loads(line) for line in (trained / "grpo/groups.jsonl").read_text().splitlines()]
    assert len(groups) == 4  # two steps of two processes with four completions each
    assert all(len(group["completions"]) == 4 for group in groups)
    assert len({(group["step"], group["id"]) for group in groups}) == 4
    assert len(logged(trained / "grpo", "loss")) == 2
    assert (trained / "grpo/adapter_model.safetensors").is_file()


def test_predict_asks_about_every_sample_once(data, tmp_path):
    outs = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.jsonl"
        argv = ["--model", "tiny", "--dtype", "float32", "--data", data["test"], "--batch_size", 2]
        argv += ["--max_new_tokens", 24, "--out", out, "--json", out.with_suffix(".json")]
        run("predict", *argv, processes=processes)
        outs.append(out)
    one, two = outs
    assert one.read_text() == two.read_text()
    assert len(one.read_text().splitlines()) == TEST
    scores = [json.loads(out.with_suffix(".json").read_text()) for out in outs]
    assert scores[0] == scores[1] and scores[0]["samples"] == TEST and scores[0]["missing"] == 0
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("case", ["whole", "spread"])
def test_two_processes_that_share_prompts_take_the_step_of_trl(steps, case):
    import torch

    files = (steps / f"{case}-{way}.pt" for way in ("stock", "shared"))
    stock, shared = (torch.load(file, weights_only=True) for file in files)
    largest = max(change.abs().max() for change in stock.values())
    assert largest > 0 and stock.keys() == shared.keys()
    for name, change in stock.items():
        assert (shared[name] - change).abs().max() < 1e-4 * largest, name


@pytest.fixture(scope="module")
def steps(data, tmp_path_factory):
    """What a step of stock TRL changes, and one of ours, with groups whole and groups spread."""
    out = tmp_path_factory.mktemp("steps")
    script = [str(Path(__file__).with_name("step_of_processes.py")), str(out), str(data["train"])]
    launch(script, processes=2)
    return out
