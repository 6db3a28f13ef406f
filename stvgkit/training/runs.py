"""A run's folder: whose it is, whether the run has finished, and where it goes on.

`run.json` in it says what is trained, on what, and how. A second start with the same goes on, or
finds that nothing is left to do; a start with anything else is refused, so that no result is ever
taken for another's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stvgkit.errors import InputError
from stvgkit.files import write_json
from stvgkit.training.models import Grounder

# What may differ between two starts of one run: where it writes, what it logs, which machine it
# has. How a batch is divided is that too; what counts is its size.
_FREE = re.compile(
    "output_dir|run_name|project|report_to|disable_tqdm|use_cpu|debug|do_|bf16|fp16|tf32|torch_|"
    "ddp_|fsdp|deepspeed|ds3_|accelerator|parallelism|local_rank|log|save_|eval_|hub_|push_|"
    "trackio|dataloader_(?!drop)|dataset_num|vllm_|use_vllm|resume|skip_memory|include_|per_device|"
    "gradient_accumulation|gradient_checkpointing|activation_checkpointing|steps_per|use_cache|"
    "num_completions|batch_eval|prediction_loss|restore_|enable_jit|num_generations_eval"
)


def describe_run(
    method: str, grounder: Grounder, rows: Sequence[dict], args, adapter=None, **more
) -> dict[str, Any]:
    """What `run.json` holds: everything that decides what a run of `sft` or `grpo` ends as.

    `args` are the trainer's settings, `adapter` is PEFT's, `more` what the method has besides.
    """
    settings = {k: v for k, v in args.to_dict().items() if not _FREE.match(k)}
    settings["batch"] = (
        args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    )
    names = ["r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora"]
    names += ["target_modules", "exclude_modules"]
    run = {
        "method": method,
        "model": grounder.name,
        "weights": grounder.weights,
        "bits": grounder.bits,
        "clip_format": asdict(grounder.clip_format),
        "rows": len(rows),
        "data": rows_digest(rows),
        "adapter": adapter and {name: getattr(adapter, name) for name in names},
        "settings": settings | more,
    }
    return json.loads(json.dumps(run, default=str))


def rows_digest(rows: Sequence[dict]) -> str:
    """A short name for these rows; moving the folder of their videos does not change it.

    >>> here, there = {"id": "a", "video": "a.mp4"}, {"id": "a", "video": "x/a.mp4"}
    >>> rows_digest([here]) == rows_digest([there])
    True
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row | {"video": Path(row["video"]).name}).encode())
    return digest.hexdigest()[:12]


def differences(there: Mapping, here: Mapping) -> list[str]:
    """What differs, for people; a field that only one side knows says nothing.

    Where both name the digest of their weights, where those lie plays no part.

    >>> differences({"fps": 2.0, "clip": {"side": 64}}, {"fps": 4.0, "clip": {"side": 64}})
    ['fps is 2.0 there and 4.0 here']
    """
    same = [key for key in there if key in here]
    if there.get("weights") and here.get("weights"):
        if there["weights"] != here["weights"] and there["model"] == here["model"]:
            return [f"the weights of {there['model']} have changed since"]
        same.remove("model" if there["weights"] == here["weights"] else "weights")
    found = []
    for key in same:
        if isinstance(there[key], Mapping) and isinstance(here[key], Mapping):
            found += differences(there[key], here[key])
        elif there[key] != here[key]:
            found.append(f"{key} is {there[key]} there and {here[key]} here")
    return found


def claim(out: Path | str, run: Mapping[str, Any], begun: bool) -> None:
    """Make the folder, or go on in it where it holds this very run; else `InputError`.

    A run that has not begun leaves nothing that could be taken for another's.

    >>> folder = getfixture("tmp_path") / "out"
    >>> claim(folder, {"seed": 0}, begun=False)
    >>> claim(folder, {"seed": 1}, begun=True)
    Traceback (most recent call last):
    stvgkit.errors.InputError: ... holds another run: seed is 0 there and 1 here; give another ...
    """
    path = Path(out) / "run.json"
    if not begun:
        return write_json(path, run)
    if not path.is_file():
        raise InputError(
            f"{out} holds a run of an older stvgkit, which does not say of what: give another "
            "--out or delete it"
        )
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path} is damaged: delete {out} or give another --out") from error
    if found := differences(there, run):
        said = "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "")
        raise InputError(f"{out} holds another run: {said}; give another --out or delete it")


def is_trained(out: Path | str) -> bool:
    """Whether a run in this folder has finished."""
    return (Path(out) / "log.json").exists()


def last_checkpoint(out: Path | str) -> str | None:
    """The newest whole checkpoint in a folder; a kill while one is written leaves it in parts."""
    found = Path(out).glob("checkpoint-*")
    numbered = [path for path in found if path.name.rpartition("-")[2].isdecimal()]
    newest_first = sorted(numbered, key=lambda path: -int(path.name.rpartition("-")[2]))
    return next((str(path) for path in newest_first if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:  # the Trainer writes this file last
        return bool(json.loads((checkpoint / "trainer_state.json").read_text()))
    except (OSError, ValueError):
        return False
