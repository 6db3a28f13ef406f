"""Ask a model about every sample and write down what it says: `predict`, then `score`.

Predictions are appended as they come, one JSON line a sample, so that a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from stvgkit.datasets import Sample
from stvgkit.files import replacing
from stvgkit.predictions import read_completions
from stvgkit.rows import row_images, row_messages
from stvgkit.scoring import Report, score_samples
from stvgkit.training.models import Grounder


def processes() -> PartialState:
    """The processes that `accelerate launch` started; on a CPU they are counted if one says so."""
    return PartialState(cpu=not torch.accelerator.is_available())


def complete(
    grounder: Grounder,
    rows: Sequence[dict],
    *,
    max_new_tokens: int = 1024,
    temperature: float = 0.0,
) -> list[str]:
    """The model's text for each row, as one batch; greedy at temperature 0."""
    conversations = []
    for row in rows:
        messages, images = row_messages(row), iter(row_images(row))
        for part in messages[0]["content"]:
            if part["type"] == "image":
                part["image"] = next(images)
        conversations.append(messages)
    inputs = grounder.processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    ).to(grounder.model.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
    grounder.model.eval()
    with torch.inference_mode():
        ids = grounder.model.generate(
            **inputs, max_new_tokens=max_new_tokens, **(sampling or {"do_sample": False})
        )
    new = ids[:, inputs["input_ids"].shape[1] :]
    return grounder.processor.tokenizer.batch_decode(new, skip_special_tokens=True)


def predict(
    grounder: Grounder | None,
    rows: Sequence[dict],
    out: Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1024,
    progress: bool = True,
    ask: Callable[[Sequence[dict]], list[str]] | None = None,
) -> Path:
    """Write a completion for every row to `out`, skipping those that are there already.

    Each line is `{"id", "completion", "frames", "times", "space"}`; `frames` are the video frames
    that the model was shown, at `times` in seconds: index i of its answer is frame `frames[i]`.
    `ask` answers a batch of rows in place of `grounder` (a server, say). Under `accelerate launch`
    every process takes its share; the batches are the same whatever their number, and after an
    interruption.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    ask = ask or partial(complete, grounder, max_new_tokens=max_new_tokens)
    state = processes()
    # Clips of like length share a batch, so that little of it is padding.
    rows = sorted(rows, key=lambda row: (-len(row["frames"]), row["id"]))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    part = out.with_name(f"{out.name}.part{state.process_index}")
    _cut_torn_line(part)
    state.wait_for_everyone()  # before anybody reads what the others have
    done = _lines([out, *_parts(out)])
    state.wait_for_everyone()
    mine = batches[state.process_index :: state.num_processes]
    todo = [batch for batch in mine if any(row["id"] not in done for row in batch)]
    bar = tqdm(total=len(mine), initial=len(mine) - len(todo), desc=out.stem, unit="batch")
    bar.disable = bar.disable or not (progress and state.is_local_main_process)
    with part.open("a", encoding="utf-8") as file, bar:
        for batch in todo:
            for row, text in zip(batch, ask(batch), strict=True):
                if row["id"] not in done:
                    file.write(_line(row, text) + "\n")
            file.flush()
            bar.update()
    state.wait_for_everyone()
    if state.is_main_process:
        _gather(out)
    state.wait_for_everyone()
    return out


def _line(row: dict, text: str) -> str:
    return json.dumps(
        {key: row[key] for key in ("id", "frames", "times", "space")} | {"completion": text}
    )


def _parts(out: Path) -> list[Path]:
    return sorted(out.parent.glob(f"{glob.escape(out.name)}.part*"))


def _lines(paths: Iterable[Path]) -> dict[str, str]:
    """The whole lines of all files by sample id; one that a kill cut short is not whole."""
    lines = {}
    for path in paths:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text[: text.rfind("\n") + 1].splitlines():
            lines.setdefault(json.loads(line)["id"], line)
    return lines


def _cut_torn_line(path: Path) -> None:
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


def _gather(out: Path) -> None:
    parts = _parts(out)
    lines = _lines([out, *parts])
    with replacing(out) as file:
        file.writelines(lines[name] + "\n" for name in sorted(lines))
    for part in parts:
        part.unlink()


def score(
    path: Path, samples: Sequence[Sample], protocol: str = "default", reader: str = "strict"
) -> Report:
    """Score the predictions that `predict` wrote."""
    return score_samples(samples, read_completions(path, reader), protocol, reader)
