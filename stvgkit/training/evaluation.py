"""Ask a model about every sample and write down what it says: `predict`, then `score`.

Predictions are appended as they come, one JSON line a sample, so that a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from stvgkit.answers import CoordinateSpace, parse_answer
from stvgkit.datasets import Sample
from stvgkit.errors import VideoError
from stvgkit.predictions import Prediction, read_completions
from stvgkit.progress import Progress
from stvgkit.rows import row_images
from stvgkit.scoring import Report, sample_scores, score_samples
from stvgkit.training.inputs import conversation, model_inputs
from stvgkit.training.lines import (
    NoAnswer,
    asked_by,
    check_answered,
    check_lines,
    cut_torn_line,
    gather,
    is_done,
    new_line,
    read_lines,
)
from stvgkit.training.models import Grounder
from stvgkit.training.outside import plain_rows
from stvgkit.training.progress import only_our_lines

Ask = Callable[[Sequence[dict]], Sequence[str | NoAnswer]]


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
    conversations = [conversation(row) for row in plain_rows(rows, grounder.processor)]
    inputs = {
        key: value.to(grounder.model.device)
        for key, value in model_inputs(grounder.processor, conversations).items()
    }
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
    grounder.model.eval()
    with torch.inference_mode():
        ids = grounder.model.generate(
            **inputs, max_new_tokens=max_new_tokens, **(sampling or {"do_sample": False})
        )
    new = ids[:, inputs["input_ids"].shape[1] :]
    return grounder.processor.tokenizer.batch_decode(new, skip_special_tokens=True)


def best_of(
    grounder: Grounder,
    rows: Sequence[dict],
    samples: Sequence[Sample],
    *,
    tries: int = 8,
    temperature: float = 1.0,
    max_new_tokens: int = 1024,
    batch_size: int = 64,
    seed: int = 0,
) -> float:
    """Mean over samples of the best vIoU among `tries` sampled answers, in [0, 1]: pass@8.

    Beside the score of the greedy answer it says whether training taught something new, or only
    to pick what the model could say before.
    """
    torch.manual_seed(seed)
    best = np.zeros(len(samples))
    for _ in range(tries):
        predictions: dict[str, Prediction] = {}
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            texts = complete(
                grounder, batch, max_new_tokens=max_new_tokens, temperature=temperature
            )
            for row, text in zip(batch, texts, strict=True):
                space = CoordinateSpace.parse(row["space"])
                answer = parse_answer(text, space, think=row["think"])
                predictions[row["id"]] = Prediction.from_answer(answer, row["frames"])
        best = np.maximum(best, sample_scores(samples, predictions)["vIoU"])
    return float(best.mean())


@only_our_lines()
def predict(
    grounder: Grounder | None,
    rows: Sequence[dict],
    out: Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1024,
    progress: bool = True,
    ask: Ask | None = None,
    by: Mapping[str, Any] | None = None,
) -> Path:
    """Write a completion for every row to `out`, skipping those that are there already.

    Each line is `{"id", "completion", "frames", "times", "space"}` and what `lines` adds; `frames`
    are the video frames that the model was shown, at `times` in seconds: index i of its answer is
    frame `frames[i]`. A row whose clip breaks is written with the reason and asked again next time.
    `ask` answers a batch of rows in place of `grounder` (a server, say), and `by` says who that is.
    Under `accelerate launch` every process takes its share; the batches are the same whatever their
    number, and after an interruption. Raises `InputError` where `out` holds another's answers.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if grounder is not None:
        model = (grounder.weights, grounder.bits)
        by = asked_by(grounder.name, grounder.clip_format, max_new_tokens, *model)
        ask = ask or partial(complete, grounder, max_new_tokens=max_new_tokens)
    if ask is None:
        raise ValueError("predict needs a grounder, or what to ask in its place")
    by = json.loads(json.dumps(by or {}))  # as it is read back
    state = processes()
    # Clips of like length share a batch, so that little of it is padding.
    rows = sorted(rows, key=lambda row: (-len(row["frames"]), row["id"]))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    part = out.with_name(f"{out.name}.part{state.process_index}")
    cut_torn_line(part)
    state.wait_for_everyone()  # before anybody reads what the others have
    lines = read_lines(out)
    check_lines(out, lines, rows, by)
    done = {name for name, line in lines.items() if is_done(line)}
    state.wait_for_everyone()
    mine = batches[state.process_index :: state.num_processes]
    todo = [batch for batch in mine if any(row["id"] not in done for row in batch)]
    line = Progress(
        "answers, batch",
        len(mine),
        done=len(mine) - len(todo),
        shown=progress and state.is_local_main_process,
    )
    with part.open("a", encoding="utf-8") as file, line:
        for batch in todo:
            for row, answer in zip(batch, _answers(ask, batch), strict=True):
                if row["id"] not in done:
                    file.write(new_line(row, answer, by) + "\n")
            file.flush()
            line.step()
    state.wait_for_everyone()
    if state.is_main_process:
        gather(out)
    state.wait_for_everyone()
    check_answered(out, rows)
    return out


def _answers(ask: Ask, batch: Sequence[dict]) -> Sequence[str | NoAnswer]:
    """An answer for each row; where a clip cannot be read, the reason, and the others are asked."""
    try:
        return ask(batch)
    except VideoError:
        broken = {row["id"]: reason for row in batch if (reason := _broken(row))}
        if not broken:
            raise
    whole = [row for row in batch if row["id"] not in broken]
    said = iter(_answers(ask, whole) if whole else [])
    return [NoAnswer(broken[row["id"]]) if row["id"] in broken else next(said) for row in batch]


def _broken(row: dict) -> str | None:
    try:
        row_images(row)
    except VideoError as error:
        return f"the clip cannot be read: {error}"
    return None


def score(
    path: Path, samples: Sequence[Sample], protocol: str = "default", reader: str = "strict"
) -> Report:
    """Score the predictions that `predict` wrote."""
    return score_samples(samples, read_completions(path, reader), protocol, reader)
