"""Pre-train the tiny VLM on single-frame grounding: `python -m stvgkit.tiny.pretrain --out DIR`.

Three stages, as real multimodal models are made:

1. *encoder*: the vision tower alone learns to say, for each visual token, whether a thing has its
   centre there, and its colour, shape and box. The classifiers for colour, shape and coordinates
   are the language model's own word and number embeddings, so what the tower writes is already
   in the words that the language model will look for.
2. *alignment*: the whole model points, names and finds cells in one frame.
3. *instruction*: the same, asked about frame k of eight, or told that the thing is not there.

It never sees an answer in the STVG format, a span of time, or a sentence about an event.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from stvgkit.boxes import iou
from stvgkit.datasets.shapes import (
    COLOURS,
    SHAPES,
    SIZE,
    STEPS,
    STRIDE,
    draw,
    make_scene,
    render,
)
from stvgkit.tiny.architecture import build_model
from stvgkit.tiny.tokenizer import CELLS as CELL_NAMES
from stvgkit.tiny.tokenizer import MERGE, PATCH, TIMES, build_processor

CELLS = SIZE // (PATCH * MERGE)  # visual tokens on a side
PLACES = 0.01 * np.round(100 * np.eye(1))  # see `to_text`


@dataclass
class Pictures:
    """A batch of clips with everything that is in them."""

    frames: np.ndarray  # (batch, frames, SIZE, SIZE, 3) uint8
    boxes: np.ndarray  # (batch, frames, things, 4)
    visible: np.ndarray  # (batch, frames, things) bool
    colours: np.ndarray  # (batch, things) numbers into COLOURS
    shapes: np.ndarray  # (batch, things) numbers into SHAPES


def draw_pictures(rng, batch: int, frames: int, things: int = 4) -> Pictures:
    """Random clips whose things jump anywhere from frame to frame, so that only looking helps."""
    rows = batch * frames
    tries = 24
    half = rng.uniform(0.06, 0.22, size=(rows, tries, things))
    centre = half[..., None] + rng.random((rows, tries, things, 2)) * (1 - 2 * half[..., None])
    boxes = np.concatenate([centre - half[..., None], centre + half[..., None]], axis=-1)
    # Fewer things make room; the try with the least overlap is kept.
    visible = rng.random((rows, things)) < rng.uniform(0.4, 1.0, size=(rows, 1))
    visible[:, 0] |= ~visible.any(axis=1)
    crowding = np.zeros((rows, tries))
    for i in range(things):
        for j in range(i):
            pair = iou(boxes[:, :, i].reshape(-1, 4), boxes[:, :, j].reshape(-1, 4))
            both = (visible[:, i] & visible[:, j])[:, None]
            crowding += pair.reshape(rows, tries) * both
    boxes = boxes[np.arange(rows), crowding.argmin(axis=1)]
    looks = np.stack([rng.permutation(len(COLOURS) * len(SHAPES))[:things] for _ in range(batch)])
    colours, shapes = looks // len(SHAPES), looks % len(SHAPES)
    # Things of one clip often share a colour or a shape.
    palette = np.array(list(COLOURS.values()), dtype=np.float32)
    background = rng.integers(0, 60, size=(batch, 3)).repeat(frames, axis=0)
    images = draw(
        boxes,
        visible,
        palette[colours.repeat(frames, axis=0)],
        shapes.repeat(frames, axis=0),
        background,
    )
    return Pictures(
        images.reshape(batch, frames, SIZE, SIZE, 3),
        boxes.reshape(batch, frames, things, 4),
        visible.reshape(batch, frames, things),
        colours,
        shapes,
    )


def draw_clips(rng, batch: int, frames: int, things: int = 4) -> Pictures:
    """Clips of the shapes world, whose things move as they do in the benchmark."""
    images = np.zeros((batch, frames, SIZE, SIZE, 3), dtype=np.uint8)
    boxes = np.zeros((batch, frames, things, 4))
    visible = np.zeros((batch, frames, things), dtype=bool)
    colours, shapes = np.zeros((2, batch, things), dtype=int)
    names = list(COLOURS)
    for b in range(batch):
        scene = make_scene(rng)
        steps = np.sort(rng.permutation(STEPS)[:frames])
        images[b] = render(scene, steps * STRIDE)
        for i, thing in enumerate(scene.things):
            boxes[b, :, i] = thing.boxes[steps]
            visible[b, :, i] = thing.visible[steps]
            colours[b, i] = names.index(thing.colour)
            shapes[b, i] = SHAPES.index(thing.shape)
    return Pictures(images, boxes, visible, colours, shapes)


def to_patches(frames: np.ndarray) -> torch.Tensor:
    """What `Qwen2VLImageProcessor` makes of frames `(n, SIZE, SIZE, 3)`: `(n * 64, 384)`."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    n, c = pixels.shape[:2]
    side = (CELLS, MERGE, PATCH)
    patches = pixels.reshape(n, c, *side, *side).permute(0, 2, 5, 3, 6, 1, 4, 7)
    patches = patches.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return patches.reshape(n * (CELLS * MERGE) ** 2, c * 2 * PATCH * PATCH)


def through_a_codec(frames: np.ndarray, rng) -> np.ndarray:
    """A cheap likeness of what H.264 does: colour at half the resolution, and a little noise."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    chroma = F.avg_pool2d(pixels - luma, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    noise = torch.from_numpy(rng.normal(0, 3, size=tuple(luma.shape)).astype(np.float32))
    noisy = (luma + chroma + noise).clamp(0, 255)
    return noisy.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


class Grounder:
    """The model in training with its processor; builds batches and counts what goes wrong."""

    def __init__(self, seed: int) -> None:
        self.processor = build_processor()
        self.tokenizer = self.processor.tokenizer
        self.model = build_model(self.tokenizer, seed)
        self.rng = np.random.default_rng(seed)

    def grid(self, images: int) -> torch.Tensor:
        return torch.tensor([[1, CELLS * MERGE, CELLS * MERGE]]).expand(images, 3)

    # Stage 1

    def dense_heads(self) -> torch.nn.ModuleDict:
        hidden = self.model.config.text_config.hidden_size
        heads = {"seen": torch.nn.Linear(hidden, 1)}
        heads |= {f"side{k}": torch.nn.Linear(hidden, hidden, bias=False) for k in range(4)}
        return torch.nn.ModuleDict(heads)

    def dense_loss(self, heads, pictures: Pictures) -> tuple[torch.Tensor, dict[str, float]]:
        frames = through_a_codec(pictures.frames[:, 0], self.rng)
        tower = self.model.model.visual
        tokens = tower(to_patches(frames), grid_thw=self.grid(len(frames))).pooler_output
        owner = _cell_owner(pictures)  # (batch, cells), -1 for none
        tokens = tokens.view(*owner.shape, -1)
        seen = torch.from_numpy(owner >= 0)
        loss = F.binary_cross_entropy_with_logits(heads["seen"](tokens)[..., 0], seen.float())
        rows, cells = np.nonzero(owner >= 0)
        things = owner[rows, cells]
        mine = tokens[rows, cells]  # (n, hidden)
        figures = {"seen": loss.item()}
        for what, names, truth in (
            ("colour", [f" {name}" for name in COLOURS], pictures.colours[rows, things]),
            ("shape", [f" {name}" for name in SHAPES], pictures.shapes[rows, things]),
            ("cell", CELL_NAMES, cells),
        ):
            words = self.words(names)
            logits = 2 * F.normalize(mine, dim=-1) @ words.T / words.std() / 3
            truth = torch.from_numpy(truth)
            loss = loss + F.cross_entropy(logits, truth)
            figures[what] = (logits.argmax(-1) == truth).float().mean().item()
        numbers = self.words([str(n) for n in range(101)])
        sides = np.round(100 * pictures.boxes[rows, 0, things]).astype(int)  # (n, 4)
        off = 0.0
        for k in range(4):
            logits = heads[f"side{k}"](mine) @ numbers.T
            truth = torch.from_numpy(sides[:, k])
            loss = loss + 0.25 * F.cross_entropy(logits, truth)
            off += (logits.argmax(-1) - truth).abs().float().mean().item() / 400
        figures["off"] = off
        return loss, figures

    def words(self, names: list[str]) -> torch.Tensor:
        ids = self.tokenizer.convert_tokens_to_ids(names)
        return self.model.model.language_model.embed_tokens.weight[ids].detach()

    # Stages 2 and 3

    def conversation(self, pictures: Pictures, b: int, turns: int, tasks) -> list[tuple[str, str]]:
        """Questions and answers about clip b."""
        frames, things = pictures.visible.shape[1:]
        seen = pictures.visible[b]
        pairs = []
        for _ in range(turns):
            task = tasks[self.rng.integers(len(tasks))]
            k = int(self.rng.integers(frames))
            here = np.flatnonzero(seen[k])
            anywhere = np.flatnonzero(seen.any(axis=0))
            if not len(here) or (len(anywhere) > 1 and task == "point" and self.rng.random() < 0.15):
                task, i = "point", int(self.rng.choice(anywhere)) if len(anywhere) else 0
            else:
                i = int(self.rng.choice(here))
            pairs.append(question(pictures, b, k, i, task))
        return pairs

    def batch(self, pictures: Pictures, conversations) -> dict[str, torch.Tensor]:
        """Token ids with labels on the answers only, padded on the right, and the patches."""
        batch, frames = pictures.frames.shape[:2]
        ids, labels = [], []
        pad = "<|image_pad|>" * CELLS**2
        shown = "".join(f"{TIMES[f]}<|vision_start|>{pad}<|vision_end|>" for f in range(frames))
        for pairs in conversations:
            row, kept = [], []
            for turn, (ask, answer) in enumerate(pairs):
                prompt = f"<|im_start|>user\n{'' if turn else shown}{ask}<|im_end|>\n"
                prompt_ids = self.tokenizer(prompt + "<|im_start|>assistant\n").input_ids
                answer_ids = self.tokenizer(answer + "<|im_end|>").input_ids
                newline = self.tokenizer("\n").input_ids
                row += prompt_ids + answer_ids + newline
                kept += [-100] * len(prompt_ids) + answer_ids + [-100] * len(newline)
            ids.append(row)
            labels.append(kept)
        width = max(map(len, ids))
        pad_id = self.tokenizer.pad_token_id
        input_ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in ids])
        labels = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
        images = through_a_codec(pictures.frames.reshape(-1, SIZE, SIZE, 3), self.rng)
        return {
            "input_ids": input_ids,
            "attention_mask": (input_ids != pad_id).long(),
            "labels": labels,
            "pixel_values": to_patches(images),
            "image_grid_thw": self.grid(batch * frames),
            "mm_token_type_ids": (input_ids == self.model.config.image_token_id).int(),
        }

    @torch.no_grad()
    def count_errors(self, pictures: Pictures, frames_asked) -> dict[str, float]:
        """Point at every clip's first visible thing: how often is it the right one, how close."""
        self.model.eval()
        conversations, truth = [], []
        for b, k in enumerate(frames_asked):
            i = int(np.flatnonzero(pictures.visible[b, k])[0])
            conversations.append([question(pictures, b, k, i, "point")])
            truth.append((b, k, i))
        batch = self.batch(pictures, conversations)
        # All rows are alike but for words, so the answer starts at the same place in each.
        start = int((batch["labels"][0] != -100).nonzero()[0])
        batch.pop("labels")
        prompt = {k: v[:, :start] if v.ndim == 2 and k != "pixel_values" and k != "image_grid_thw" else v for k, v in batch.items()}
        out = self.model.generate(**prompt, max_new_tokens=12, do_sample=False)
        texts = self.tokenizer.batch_decode(out[:, start:], skip_special_tokens=True)
        right, close = [], []
        for (b, k, i), text in zip(truth, texts, strict=True):
            box = read_box(text)
            here = np.flatnonzero(pictures.visible[b, k])
            overlaps = iou(np.repeat([box], len(here), axis=0), pictures.boxes[b, k, here])
            mine = float(overlaps[list(here).index(i)])
            right.append(mine > 0 and overlaps.argmax() == list(here).index(i))
            close.append(mine)
        self.model.train()
        return {"right": float(np.mean(right)), "iou": float(np.mean(close))}


def read_box(text: str) -> np.ndarray:
    """The first four numbers after a bracket, as a relative box; zeros where there are none."""
    numbers = [int(n) for n in text.partition("[")[2].replace("]", " ").replace(",", " ").split()[:4] if n.isdigit()]
    return np.array(numbers if len(numbers) == 4 else [0, 0, 0, 0]) / 100


def question(pictures: Pictures, b: int, k: int, i: int, task: str) -> tuple[str, str]:
    """One question about thing i in frame k of clip b, with its answer."""
    name = f"the {list(COLOURS)[pictures.colours[b, i]]} {SHAPES[pictures.shapes[b, i]]}"
    box = pictures.boxes[b, k, i]
    x1, y1, x2, y2 = np.round(100 * box).astype(int)
    place = f"{k}. [{x1}, {y1}, {x2}, {y2}]"
    if task == "name":
        return f"name: {place}", name
    if task == "cell":
        column, row = (np.clip((box[:2] + box[2:]) / 2, 0, 0.999) * CELLS).astype(int)
        return f"cell: {name} in frame {k}", CELL_NAMES[row * CELLS + column]
    return f"point: {name} in frame {k}", place if pictures.visible[b, k, i] else f"{k}. none"


def _cell_owner(pictures: Pictures) -> np.ndarray:
    """Which thing has its centre in each visual token of the first frame, `(batch, cells)`."""
    boxes, visible = pictures.boxes[:, 0], pictures.visible[:, 0]
    owner = np.full((len(boxes), CELLS * CELLS), -1)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    column, row = np.moveaxis(np.clip(centre * CELLS, 0, CELLS - 1).astype(int), -1, 0)
    for i in range(boxes.shape[1]):
        rows = np.flatnonzero(visible[:, i])
        owner[rows, row[rows, i] * CELLS + column[rows, i]] = i
    return owner
