"""Ask a model about every sample and write down what it says: `predict`, then `score`.

Predictions are appended as they come, one JSON line a sample, so that a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from stvgkit.datasets import Sample
from stvgkit.metrics import Report, score_samples
from stvgkit.models import Grounder
from stvgkit.predictions import read_completions
from stvgkit.rows import row_images, row_messages


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
    grounder: Grounder,
    rows: Sequence[dict],
    out: Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1024,
    progress: bool = True,
) -> Path:
    """Write a completion for every row to `out`, skipping those that are there already.

    Each line is `{"id", "completion", "frames", "space"}`; `frames` are the video frames that the
    model was shown, so that index i of its answer is video frame `frames[i]`.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    done = _finished(out)
    todo = [row for row in rows if row["id"] not in done]
    # Clips of like length share a batch, so that little of it is padding.
    todo.sort(key=lambda row: (-len(row["frames"]), row["id"]))
    bar = tqdm(total=len(rows), initial=len(done), desc=out.stem, disable=not progress)
    with out.open("a", encoding="utf-8") as file, bar:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            texts = complete(grounder, batch, max_new_tokens=max_new_tokens)
            for row, text in zip(batch, texts, strict=True):
                line = {key: row[key] for key in ("id", "frames", "space")} | {"completion": text}
                file.write(json.dumps(line) + "\n")
            file.flush()
            bar.update(len(batch))
    return out


def _finished(path: Path) -> set[str]:
    """Ids with a whole line in the file; a line that a kill cut short is cut off."""
    if not path.exists():
        return set()
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return {json.loads(line)["id"] for line in whole.splitlines()}


def score(path: Path, samples: Sequence[Sample], protocol: str = "default") -> Report:
    """Score the predictions that `predict` wrote."""
    return score_samples(samples, read_completions(path), protocol)
