"""What a batch of a recipe is: its longest clip as prompt and answer, as the model takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor

from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat, gold_text, row_messages
from stvgkit.training.inputs import Collator
from stvgkit.training.models import adapter_base, clip_format_of, keep_frame_size, model_path
from stvgkit.training.packing import TOKEN_FIELDS

QUERY = "the person in the red coat who walks to the door and opens it"


@dataclass(frozen=True)
class Clip:
    """One prompt and its answer in tokens; the answer is the longest that can be asked for."""

    frames: int
    size: tuple[int, int]  # width, height that the model sees
    frames_as: str  # "images" or "video"
    visual_tokens: int
    text_tokens: int
    answer_tokens: int


def describe(model, task) -> tuple:
    """Configuration, processor and clip format of a recipe's model; no weights are read."""
    path = model_path(model.model_name_or_path)
    try:
        processor = AutoProcessor.from_pretrained(path)
        config = AutoConfig.from_pretrained(adapter_base(path) or path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the configuration and processor of {model.model_name_or_path!r} are not at hand: "
            "plan reads them (no weights) from a folder or from the hub; be online once, or give "
            f"--model FOLDER ({str(error).strip().splitlines()[0]})"
        ) from error
    clip_format = clip_format_of(path, config, processor, **task.clip_changes())
    keep_frame_size(processor, clip_format)
    return config, processor, clip_format


def longest_row(clip_format: ClipFormat, video: tuple[int, int], seconds: float | None) -> dict:
    """A row as `rows.plan_row` gives it, whose event fills the clip: the longest answer.

    Without `seconds` a clip has `max_frames` frames, or 20 seconds, as HC-STVG's have.

    >>> len(longest_row(ClipFormat(), (640, 360), 20)["times"])
    40
    """
    most = clip_format.max_frames
    if seconds is None and most is not None:
        count = most
    else:
        count = max(math.ceil((20.0 if seconds is None else seconds) * clip_format.fps), 1)
        count = min(count, most or count)
    size = clip_format.frame_size(*video)
    return {
        "id": "longest",
        "query": QUERY,
        "times": (np.arange(count) / clip_format.fps).tolist(),
        "size": list(size),
        "space": clip_format.coordinate_space(*size).name,
        "template": clip_format.template,
        "think": clip_format.think,
        "frames_as": clip_format.frames_as,
        "target_frames": list(range(count)),
        "target_boxes": [[0.25, 0.25, 0.75, 0.999]] * count,
    }


def batch_of(processor, row: dict, images: Sequence | None = None) -> dict[str, torch.Tensor]:
    """One example for SFT as it is trained on; blank frames where none are given."""
    if images is None:
        images = [Image.new("RGB", tuple(row["size"]))] * len(row["times"])
    example = {"prompt": row_messages(row), "images": images, "times": row["times"]}
    example["completion"] = [{"role": "assistant", "content": gold_text(row)}]
    return Collator(processor)([example])


def with_answer(batch, prompt: int, length: int) -> dict[str, torch.Tensor]:
    """The batch with an answer of `length` tokens, whichever they are."""
    changed = dict(batch)
    ids = batch["input_ids"][:, :prompt]
    changed["labels"] = torch.cat([torch.full_like(ids, -100), ids.new_ones((1, length))], dim=1)
    for name in TOKEN_FIELDS:
        if name in batch:
            tail = batch[name].new_full((1, length), name in ("input_ids", "attention_mask"))
            changed[name] = torch.cat([batch[name][:, :prompt], tail], dim=1)
    return changed


def visual_tokens(config, batch) -> int:
    ids = [getattr(config, f"{kind}_token_id", None) for kind in ("image", "video")]
    return sum(int((batch["input_ids"] == token).sum()) for token in ids if token is not None)
