"""Kill SFT, GRPO and predict at random moments, go on, and compare with a run left alone.

    python benchmarks/faults.py [--kills 10] [--seed 0] [--json FILE]

A run is a process of its own that is killed with SIGKILL, which no program can catch. It is forked
from this one, so that not every run has to import everything again; so nothing may be computed with
torch here, whose threads do not survive a fork. Equal means: the weights, the log (but for
`UNEQUAL`), the groups of completions and the predictions are the same bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from pathlib import Path

import transformers
import trl  # noqa: F401  (imported once, before the forks)

from stvgkit.cli import main as stvgkit
from stvgkit.datasets.shapes import write_shapes
from stvgkit.training import evaluation, trainers  # noqa: F401

# Not compared: times, and what the trainers count from the start of their process; nor the line
# that sums it up.
UNEQUAL = ("step_time", "num_tokens")


def start(argv: list[str], log: Path) -> int:
    """Run a command of stvgkit in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = stvgkit(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(argv: list[str], log: Path) -> float:
    """Run a command to its end; returns the seconds it took."""
    began = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(start(argv, log), 0)[1])
    if code:
        raise SystemExit(f"{argv[0]} ended with {code}:\n{log.read_text()[-3000:]}")
    return time.monotonic() - began


def killed(argv: list[str], log: Path, after: float) -> bool:
    """Start a command and kill it `after` seconds; whether that hit it before its end."""
    child, deadline = start(argv, log), time.monotonic() + after
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def outcome(folder: Path) -> dict[str, str]:
    """What a run left, as digests; without times, which are never the same."""
    found = {}
    for path in sorted(folder.glob("*")):
        if path.name == "log.json":
            log = json.loads(path.read_text())
            steps = [line for line in log if "train_runtime" not in line]
            kept = [{k: v for k, v in line.items() if k not in UNEQUAL} for line in steps]
            data = json.dumps(kept, sort_keys=True).encode()
        elif path.suffix in (".safetensors", ".jsonl"):
            data = path.read_bytes()
        else:
            continue
        found[path.name] = hashlib.sha256(data).hexdigest()
    return found


def commands(data: Path, out: Path, sft: Path) -> dict[str, list[str]]:
    """The three commands; GRPO and predict start from the undisturbed SFT."""
    common = ["--report_to", "none", "--dtype", "float32", "--disable_tqdm", "true"]
    train = ["--annotations", str(data / "train"), *common]
    return {
        "sft": ["sft", "tiny-sft", *train, "--out", str(out / "sft"), "--max_steps", "6"]
        + ["--save_steps", "2", "--per_device_train_batch_size", "4"],
        "grpo": ["grpo", "tiny-grpo", *train, "--out", str(out / "grpo"), "--model", str(sft)]
        + ["--max_steps", "4", "--save_steps", "1", "--per_device_train_batch_size", "4"]
        + ["--num_generations", "4", "--max_completion_length", "24"],
        "predict": ["predict", "--annotations", str(data / "test"), "--model", str(sft)]
        + ["--out", str(out / "predict" / "p.jsonl"), "--batch_size", "2"]
        + ["--max_new_tokens", "40", "--dtype", "float32"],
    }


def trial(kills: int, seed: int, folder: Path, only=("sft", "grpo", "predict")) -> list[dict]:
    """Each command undisturbed, then killed `kills` times; what came of it."""
    rng = random.Random(seed)
    write_shapes(folder / "data", "train", 16)
    write_shapes(folder / "data", "test", 8)
    plain, disturbed = folder / "plain", folder / "disturbed"
    log, results = folder / "log.txt", []
    transformers.utils.logging.disable_progress_bar()
    calm = commands(folder / "data", plain, plain / "sft")
    for name, argv in commands(folder / "data", disturbed, plain / "sft").items():
        seconds = finish(calm[name], log)
        if name not in only:
            continue
        hits = 0
        while hits < kills:
            if killed(argv, log, rng.uniform(0.0, seconds)):
                hits += 1
            else:  # it got to its end: begin anew, so that every kill hits a run
                if outcome(disturbed / name) != outcome(plain / name):
                    break
                shutil.rmtree(disturbed / name)
        finish(argv, log)
        same = outcome(disturbed / name) == outcome(plain / name)
        results.append({"run": name, "seconds": seconds, "kills": hits, "equal": same})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = trial(options.kills, options.seed, Path(folder))
    for row in results:
        verdict = "equal, bit for bit" if row["equal"] else "DIFFERENT"
        print(f"{row['run']:<8} {row['seconds']:6.1f} s alone, {row['kills']} kills: {verdict}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    raise SystemExit(not all(row["equal"] for row in results))


if __name__ == "__main__":
    main()
