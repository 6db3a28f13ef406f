"""Rows as inputs of a model: the one way for SFT, rollouts, the loss, predictions and `plan`.

A clip is shown in one of two forms (`ClipFormat.frames_as`):

    images   each frame is a picture of its own, after its time as text
    video    Qwen's own video input: two frames share a time step, and so half the visual tokens

In both, frames and times are ours: the processor neither resizes nor leaves out a frame. Of a
video, Qwen3-VL's processor writes the mean time of each step into the text. Qwen2.5-VL's model
counts positions in time by the seconds of a step, so those are given as they are. An odd number of
frames is filled up by the last one once more, by the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from stvgkit.rows import row_images, row_messages

FRAMES_A_STEP = 2  # of every published Qwen-VL
POSITIONS_A_SECOND = 2  # of every published Qwen2.5-VL


def with_frames(messages: list[dict], frames: Sequence, times: Sequence[float]) -> list[dict]:
    """The messages of a prompt with their frames in place, as pictures or as one video."""
    left = iter(frames)

    def shown(part: dict) -> dict:
        if part["type"] == "image":
            return part | {"image": next(left)}
        if part["type"] == "video":
            return part | {"video": list(frames), "times": list(times)}
        return part

    return [message | {"content": [*map(shown, message["content"])]} for message in messages]


def conversation(row: dict, frames: Sequence | None = None) -> list[dict]:
    """The prompt of a row with its frames in place; they are decoded where none are given."""
    frames = row_images(row) if frames is None else frames
    return with_frames(row_messages(row), frames, row["times"])


def filled(example: dict) -> list[dict]:
    """The prompt of an example of `row_dataset` with its frames in place."""
    frames = example["video"] if "video" in example else example["images"]
    return with_frames(example["prompt"], frames, example.get("times", ()))


def model_inputs(processor, conversations: Sequence[list[dict]], **template) -> dict:
    """Prompts with their frames as arguments of the model's forward, padded on the left.

    `template` goes to the chat template.
    """
    texts = processor.apply_chat_template(
        list(conversations), add_generation_prompt=True, tokenize=False, **template
    )
    parts = [[part for turn in turns for part in turn["content"]] for turns in conversations]
    images = [[part["image"] for part in one if part["type"] == "image"] for one in parts]
    videos = [part for one in parts for part in one if part["type"] == "video"]
    media: dict[str, Any] = {"images": images} if any(images) else {}
    if videos:
        media["videos"] = [np.stack([np.asarray(im) for im in part["video"]]) for part in videos]
        media["videos_kwargs"] = {
            "do_resize": False,
            "do_sample_frames": False,
            "input_data_format": "channels_last",
            "video_metadata": [_metadata(part["times"]) for part in videos],
        }
    inputs = processor(
        text=texts,
        padding=True,
        padding_side="left",
        add_special_tokens=False,  # the chat template has written them
        return_tensors="pt",
        **media,
    )
    if "second_per_grid_ts" in inputs:
        seconds = [seconds_a_step(part["times"]) for part in videos]
        inputs["second_per_grid_ts"] = torch.tensor(seconds)
    return dict(inputs)


def _metadata(times: Sequence[float]) -> dict:
    """The times as a processor reads them: numbers of milliseconds."""
    thousandths = [round(1000 * seconds) for seconds in times]
    return {"fps": 1000.0, "frames_indices": thousandths, "total_num_frames": len(times)}


def seconds_a_step(times: Sequence[float]) -> float:
    """How long a step of two frames lasts, in seconds: the mean over the clip.

    Qwen2.5-VL cuts a step's time to half a second. The frames nearest to 0.0, 0.5, 1.0, ... in a
    video of 25 frames a second are a little less than half a second apart, and each step would be
    cut to the half second before. So a mean that a whole number of half seconds meets at every
    step, to a quarter of a second, becomes that number.

    >>> seconds_a_step([0.0, 0.48, 1.0, 1.48])
    1.0
    >>> round(seconds_a_step([0.3 * k for k in range(12)]), 6)
    0.6
    """
    if len(times) < 2:
        return 1.0  # one step, at time 0 whatever it lasts
    mean = FRAMES_A_STEP * (times[-1] - times[0]) / (len(times) - 1)
    whole = round(mean * POSITIONS_A_SECOND) / POSITIONS_A_SECOND
    last = (len(times) - 1) // FRAMES_A_STEP
    meets = whole > 0 and abs(whole - mean) * last < 0.5 / POSITIONS_A_SECOND
    return whole if meets else mean


@dataclass(frozen=True)
class Collator:
    """Examples for SFT as a batch, padded on the right: a data collator for `SFTTrainer`.

    An example has a `prompt`, its frames as `images` or as a `video` with `times`, and its answer
    as `completion`. The loss is of the answer alone, unless `completion_only` is False.
    """

    processor: Any
    max_length: int | None = None
    completion_only: bool = True

    def __call__(self, examples: Sequence[dict]) -> dict[str, torch.Tensor]:
        prompts = list(map(filled, examples))
        inputs = model_inputs(self.processor, prompts)
        shown = inputs.pop("attention_mask").bool()  # (B, P)
        token_fields = [key for key, value in inputs.items() if value.shape == shown.shape]
        answers = [
            torch.tensor(self._answer(prompt, example["completion"]))
            for prompt, example in zip(prompts, examples, strict=True)
        ]
        batch = {}
        for key in token_fields:
            mine = answers if key == "input_ids" else map(torch.zeros_like, answers)
            parts = zip(inputs[key], shown, mine, strict=True)
            batch[key] = self._padded([torch.cat([row[kept], a]) for row, kept, a in parts])
        lengths = torch.tensor(
            [kept.sum() + len(a) for kept, a in zip(shown, answers, strict=True)]
        )
        there = torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]  # (B, L)
        taught = there.clone()
        if self.completion_only:
            taught &= torch.arange(there.shape[1]) >= shown.sum(1)[:, None]
        labels = batch["input_ids"].masked_fill(~taught, -100)
        pad = self.processor.tokenizer.pad_token_id
        batch["input_ids"] = batch["input_ids"].masked_fill(~there, pad)
        media = {key: value for key, value in inputs.items() if key not in token_fields}
        return media | batch | {"attention_mask": there.long(), "labels": labels}

    def _answer(self, prompt: list[dict], completion: list[dict]) -> list[int]:
        """The tokens with which the chat template goes on behind the prompt."""
        write = self.processor.apply_chat_template
        asked = write(prompt, add_generation_prompt=True, tokenize=False)
        whole = write([*prompt, *map(_in_parts, completion)], tokenize=False)
        assert whole.startswith(asked), "the chat template writes an answer behind its question"
        return self.processor.tokenizer(whole[len(asked) :], add_special_tokens=False)["input_ids"]

    def _padded(self, rows: list[torch.Tensor]) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True)[:, : self.max_length]


def _in_parts(message: dict) -> dict:
    """A message whose text is a part, as some chat templates ask for."""
    text = message["content"]
    return (
        message | {"content": [{"type": "text", "text": text}]}
        if isinstance(text, str)
        else message
    )
