"""Pre-train the tiny VLM to see, name and point: `python -m stvgkit.tiny.pretrain --out DIR`.

Eight stages, in the order in which real multimodal models are made:

1. *encoder*: the vision tower alone learns to say, for each visual token, whether a thing has its
   centre there, and its colour, shape, cell and box. What it says is compared with the language
   model's own word embeddings, so the tower writes in the words that the rest will look for.
2. *places*: the whole model names what is at a place and places what is named, first in one
   frame, then in a given frame of several. A coarse place (the cell of a 4 x 4 board, one token)
   comes before the box: naming the wrong thing costs a whole token, not a few pixels.
3. *dialogue*: the same as questions and answers, and that a thing is not there.
4. *practice*: more of these, nearly all in clips of eight frames, until the boxes are tight.
5. *lists*: the same thing pointed at in several given frames, one box after the other.
6. *changes*: which frames a thing is seen in, and pointing in a range of frames. Beside that, a
   visual token learns to tell where its thing was in the frame before, and what has changed.
7. *together*: the last two; and where an answer begins, all frames that its thing is seen in, or
   changes in, are to be known there.
8. *course*: the first and the last frame that a thing is seen in.

It never sees an STVG answer or a sentence about an event. Simplified away: real models learn from
photographs with captions; the visual tokens' frame (`frame_loss`), their past (`change_loss`) and a
thing's course (`course_loss`) are taught here directly, where real models see enough video to find
them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm
from transformers import Qwen3VLForConditionalGeneration

from stvgkit.boxes import iou
from stvgkit.datasets.shapes import COLOURS, SHAPES, SIZE, STEPS, STRIDE, draw, make_scene, render
from stvgkit.files import write_json
from stvgkit.rows import ClipFormat
from stvgkit.tiny.architecture import build_model
from stvgkit.tiny.tokenizer import CELLS, MERGE, PATCH, TIMES, build_processor

BOARD = SIZE // (PATCH * MERGE)  # visual tokens on a side
CLIP_FORMAT = ClipFormat(space="0-100", template="short", max_side=SIZE, factor=PATCH * MERGE)


@dataclass
class Pictures:
    """A batch of clips and everything that is in them."""

    frames: np.ndarray  # (batch, frames, SIZE, SIZE, 3) uint8
    boxes: np.ndarray  # (batch, frames, things, 4)
    visible: np.ndarray  # (batch, frames, things) bool
    colours: np.ndarray  # (batch, things) numbers into COLOURS
    shapes: np.ndarray  # (batch, things) numbers into SHAPES

    def name(self, b: int, i: int) -> str:
        return f"the {list(COLOURS)[self.colours[b, i]]} {SHAPES[self.shapes[b, i]]}"

    def box(self, b: int, k: int, i: int) -> str:
        return "[{}, {}, {}, {}]".format(*np.rint(100 * self.boxes[b, k, i]).astype(int))

    def cell(self, b: int, k: int, i: int) -> str:
        return CELLS[centre_cells(self.boxes[b, k, i])]


def draw_pictures(rng, batch: int, frames: int, things: int = 4) -> Pictures:
    """Clips whose things jump anywhere from frame to frame, so that only looking helps."""
    rows, tries = batch * frames, 24
    half = rng.uniform(0.06, 0.22, size=(rows, tries, things, 1))
    centre = half + rng.random((rows, tries, things, 2)) * (1 - 2 * half)
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    visible = rng.random((rows, things)) < rng.uniform(0.4, 1.0, size=(rows, 1))
    visible[:, 0] |= ~visible.any(axis=1)
    boxes = boxes[np.arange(rows), _crowding(boxes, visible).argmin(axis=1)]
    looks = np.stack([rng.permutation(len(COLOURS) * len(SHAPES))[:things] for _ in range(batch)])
    colours, shapes = looks // len(SHAPES), looks % len(SHAPES)
    images = draw(
        boxes,
        visible,
        np.array(list(COLOURS.values()), dtype=np.float32)[colours.repeat(frames, axis=0)],
        shapes.repeat(frames, axis=0),
        rng.integers(0, 60, size=(batch, 3)).repeat(frames, axis=0),
    )
    return Pictures(
        images.reshape(batch, frames, SIZE, SIZE, 3),
        boxes.reshape(batch, frames, things, 4),
        visible.reshape(batch, frames, things),
        colours,
        shapes,
    )


def _crowding(boxes: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """How much the visible things of each try overlap, `(rows, tries)`."""
    rows, tries, things = boxes.shape[:3]
    crowding = np.zeros((rows, tries))
    for i in range(things):
        for j in range(i):
            pair = iou(boxes[:, :, i].reshape(-1, 4), boxes[:, :, j].reshape(-1, 4))
            crowding += pair.reshape(rows, tries) * (visible[:, i] & visible[:, j])[:, None]
    return crowding


def draw_clips(rng, batch: int, frames: int, things: int = 4) -> Pictures:
    """Clips of the shapes world, whose things move as they do in the benchmark."""
    images = np.zeros((batch, frames, SIZE, SIZE, 3), dtype=np.uint8)
    boxes = np.zeros((batch, frames, things, 4))
    visible = np.zeros((batch, frames, things), dtype=bool)
    colours, shapes = np.zeros((2, batch, things), dtype=int)
    for b in range(batch):
        scene = make_scene(rng)
        steps = np.sort(rng.permutation(STEPS)[:frames])
        images[b] = render(scene, steps * STRIDE)
        for i, thing in enumerate(scene.things):
            boxes[b, :, i], visible[b, :, i] = thing.boxes[steps], thing.visible[steps]
            colours[b, i] = list(COLOURS).index(thing.colour)
            shapes[b, i] = SHAPES.index(thing.shape)
    return Pictures(images, boxes, visible, colours, shapes)


def through_a_codec(frames: np.ndarray, rng) -> np.ndarray:
    """A cheap likeness of what H.264 does: colour at half the resolution, and a little noise."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    chroma = F.avg_pool2d(pixels - luma, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    noise = torch.from_numpy(rng.normal(0, 3, size=tuple(luma.shape)).astype(np.float32))
    noisy = (luma + chroma + noise).clamp(0, 255)
    return noisy.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def to_patches(frames: np.ndarray) -> torch.Tensor:
    """What the processor makes of frames `(n, SIZE, SIZE, 3)`, without its overhead."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    n, c = pixels.shape[:2]
    side = (BOARD, MERGE, PATCH)
    patches = pixels.reshape(n, c, *side, *side).permute(0, 2, 5, 3, 6, 1, 4, 7)
    patches = patches.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)  # the same frame twice
    return patches.reshape(n * (BOARD * MERGE) ** 2, c * 2 * PATCH * PATCH)


# A text as pieces, each with whether the model is to learn to write it and, for some, the number
# of a thing whose course is to be known at its last token.
Pieces = list[tuple[str, bool] | tuple[str, bool, int]]


def places_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """Lines such as `the red circle in frame 2. b3 [30, 52, 48, 70]`, and the other way round."""
    pieces = [("<|im_start|>user\n" + _shown(pictures), False)]
    for k, i in _subjects(pictures, b, rng, turns):
        name, there = pictures.name(b, i), pictures.visible[b, k, i]
        place = f"{pictures.cell(b, k, i)} {pictures.box(b, k, i)}"
        if there and rng.random() < 0.3:
            pieces += [(f"{k}. {place} ", False), (name, True)]
        else:
            pieces += [(f"{name} in frame {k}. ", False), (place if there else "none", True)]
        pieces.append(("\n", False))
    return pieces


def dialogue_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """Questions about single frames with their answers, in the chat template's form."""
    pieces = []
    for turn, (k, i) in enumerate(_subjects(pictures, b, rng, turns)):
        question, answer = point_question(pictures, b, k, i)
        if pictures.visible[b, k, i] and rng.random() < 0.2:
            question, answer = f"name: {answer}", pictures.name(b, i)
        pieces += [(_ask(pictures, question, turn), False)]
        pieces += [(f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


def point_question(pictures: Pictures, b: int, k: int, i: int) -> tuple[str, str]:
    """`point: the red circle in frame 2`, and `2. [30, 52, 48, 70]` or `2. none`."""
    place = pictures.box(b, k, i) if pictures.visible[b, k, i] else "none"
    return f"point: {pictures.name(b, i)} in frame {k}", f"{k}. {place}"


def lists_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """`point: the red circle in frame 2, 3, 5` and `2. [30, 52, 48, 70], 3. none, 5. [...]`."""
    pieces, frames = [], pictures.frames.shape[1]
    for turn, (k, i) in enumerate(_subjects(pictures, b, rng, turns)):
        count = int(rng.integers(1, frames + 1))
        first = min(k, frames - count)
        row = range(first, first + count)  # half of the lists have gaps
        asked = row if rng.random() < 0.5 else np.sort(rng.permutation(frames)[:count])
        places = [point_question(pictures, b, int(k), i)[1] for k in asked]
        question = f"point: {pictures.name(b, i)} in frame {', '.join(str(k) for k in asked)}"
        pieces += [(_ask(pictures, question, turn), False, i)]
        pieces += [(f"{', '.join(places)}<|im_end|>", True), ("\n", False)]
    return pieces


def frames_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """`frame: the red circle` and `0, 2, 3`, or `point: the red circle in frame 2 - 4`."""
    pieces, frames = [], pictures.frames.shape[1]
    for turn, (_, i) in enumerate(_subjects(pictures, b, rng, turns)):
        name = pictures.name(b, i)
        if rng.random() < 0.6:
            question = f"frame: {name}"
            answer = ", ".join(str(n) for n in np.flatnonzero(pictures.visible[b, :, i]))
        else:
            first, last = np.sort(rng.integers(0, frames, size=2))
            question = f"point: {name} in frame {first} - {last}"
            places = (point_question(pictures, b, n, i)[1] for n in range(first, last + 1))
            answer = ", ".join(places)
        pieces += [(_ask(pictures, question, turn), False, i)]
        pieces += [(f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


def any_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """One of the two above."""
    text = lists_text if rng.random() < 0.4 else frames_text
    return text(pictures, b, rng, turns)


def course_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """`frame: the red circle` and `frame 0, 2, 3`; `find: the red circle` and `frame 0 - 3`."""
    pieces = []
    for turn, (_, i) in enumerate(_subjects(pictures, b, rng, turns)):
        seen = np.flatnonzero(pictures.visible[b, :, i])
        if rng.random() < 0.5:
            question, answer = "frame", ", ".join(map(str, seen))
        else:
            question, answer = "find", f"{seen[0]} - {seen[-1]}"
        pieces += [(_ask(pictures, f"{question}: {pictures.name(b, i)}", turn), False, i)]
        pieces += [("frame ", True, i), (f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


def most_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """What comes last, and now and then what came before."""
    text = (lists_text, frames_text, course_text, course_text)[rng.integers(4)]
    return text(pictures, b, rng, turns)


def _ask(pictures: Pictures, question: str, turn: int = 0) -> str:
    """A question in the chat template's form; the first one of a clip comes with its frames."""
    shown = "" if turn else _shown(pictures)
    return f"<|im_start|>user\n{shown}{question}<|im_end|>\n<|im_start|>assistant\n"


def _shown(pictures: Pictures) -> str:
    pad = "<|image_pad|>" * BOARD**2
    times = TIMES[: pictures.frames.shape[1]]
    return "".join(f"{stamp}<|vision_start|>{pad}<|vision_end|>" for stamp in times)


def _subjects(pictures: Pictures, b: int, rng, turns: int) -> Iterator[tuple[int, int]]:
    """Frames and things to ask about: mostly a thing that is there, else one seen elsewhere."""
    seen = pictures.visible[b]
    somewhere = np.flatnonzero(seen.any(axis=0))
    for _ in range(turns if len(somewhere) else 0):
        k = int(rng.integers(len(seen)))
        here, gone = np.flatnonzero(seen[k]), [i for i in somewhere if not seen[k, i]]
        ask_gone = gone and (not len(here) or rng.random() < 0.2)
        yield k, int(rng.choice(gone if ask_gone else here))


class Pretraining:
    """The model in training, its processor, and what each stage wants of it."""

    def __init__(self, seed: int) -> None:
        self.processor = build_processor()
        self.tokenizer = self.processor.tokenizer
        self.model = build_model(self.tokenizer, seed)
        self.rng = np.random.default_rng(seed)
        width = self.model.config.text_config.hidden_size
        self.heads = torch.nn.ModuleDict(
            {"seen": torch.nn.Linear(width, 1)}
            | {f"side{k}": torch.nn.Linear(width, width, bias=False) for k in range(4)}
            | {what: torch.nn.Linear(width, STEPS) for what in ("seen in", "changes in")}
            | {
                name: torch.nn.Linear(width, BOARD**2 + 1 if what == "before" else len(CHANGES))
                for name, (_, what) in CHANGE_HEADS.items()
            }
        )

    def words(self, names) -> torch.Tensor:
        """Embeddings of single-token words, as fixed targets, `(n, hidden)`."""
        ids = self.tokenizer.convert_tokens_to_ids(list(names))
        return self.model.get_input_embeddings().weight[ids].detach()

    def encoder_loss(self, pictures: Pictures) -> tuple[torch.Tensor, dict[str, float]]:
        """Stage 1: what is centred in each visual token of single pictures?"""
        frames = through_a_codec(pictures.frames[:, 0], self.rng)
        owner = cell_owners(pictures)  # (batch, cells), -1 for none
        tokens = self.model.model.visual(to_patches(frames), grid_thw=_grid(len(frames)))
        tokens = tokens.pooler_output.view(*owner.shape, -1)
        occupied = torch.from_numpy(owner >= 0)
        seen = self.heads["seen"](tokens)[..., 0]
        loss = F.binary_cross_entropy_with_logits(seen, occupied.float())
        rows, cells = np.nonzero(owner >= 0)
        things, mine = owner[rows, cells], tokens[rows, cells]  # (n,), (n, hidden)
        figures = {}
        for what, names, truth in (
            ("colour", [f" {name}" for name in COLOURS], pictures.colours[rows, things]),
            ("shape", [f" {name}" for name in SHAPES], pictures.shapes[rows, things]),
            ("cell", CELLS, cells),
        ):
            part, figures[what] = alike(mine, self.words(names), torch.from_numpy(truth))
            loss = loss + part
        numbers = self.words(str(n) for n in range(101))
        sides = torch.from_numpy(np.rint(100 * pictures.boxes[rows, 0, things]).astype(int))
        off = []
        for k in range(4):
            logits = self.heads[f"side{k}"](mine) @ numbers.T
            loss = loss + 0.25 * F.cross_entropy(logits, sides[:, k])
            off.append((logits.argmax(-1) - sides[:, k]).abs().float().mean().item())
        return loss, figures | {"off by": float(np.mean(off))}

    def text_loss(self, pictures: Pictures, texts: list[Pieces], changes: bool = False):
        """Stages 2 to 8: the language loss on what is to be learned, plus `frame_loss`."""
        inputs, labels = self.batch(pictures, texts)
        out = self.model(**inputs, output_hidden_states=True)
        learn = labels[:, 1:] != -100
        logits, truth = out.logits[:, :-1][learn], labels[:, 1:][learn]
        loss = F.cross_entropy(logits, truth)
        right = logits.argmax(-1) == truth
        figures = {"loss": loss.item()}
        for what, tokens in (("cell", CELLS), ("number", [str(n) for n in range(101)])):
            ids = torch.tensor(self.tokenizer.convert_tokens_to_ids(tokens))
            chosen = torch.isin(truth, ids)
            if chosen.any():
                figures[what] = right[chosen].float().mean().item()
        if pictures.frames.shape[1] > 1:
            loss = loss + 0.3 * self.frame_loss(out.hidden_states, inputs, pictures.frames.shape)
        if changes and pictures.frames.shape[1] > 1:
            found = thing_changes(pictures)
            for part, more in (
                self.change_loss(out.hidden_states, inputs, pictures, found),
                self.course_loss(out.hidden_states[3], pictures, found, self.subjects(texts)),
            ):
                loss, figures = loss + part, figures | more
        return loss, figures

    def frame_loss(self, hidden, inputs, shape) -> torch.Tensor:
        """Early in the language model, a visual token should be like its frame's time stamp."""
        batch, frames = shape[:2]
        stamps = self.words(TIMES[:frames])
        visual = inputs["mm_token_type_ids"] == 1
        truth = torch.arange(frames).repeat_interleave(BOARD**2).repeat(batch)
        return sum(alike(hidden[layer][visual], stamps, truth)[0] for layer in (1, 2))

    def change_loss(self, hidden, inputs, pictures: Pictures, found):
        """The visual token in a thing's middle should tell where that was, and what has changed.

        Both are read by throw-away heads. Gives the loss, and the shares that are right.
        """
        rows, frames, things, kinds = found
        before = centre_cells(pictures.boxes[rows, frames - 1, things])
        before = np.where(pictures.visible[rows, frames - 1, things], before, BOARD**2)
        cells = centre_cells(pictures.boxes[rows, frames, things])
        truths = {"before": torch.from_numpy(before), "change": torch.from_numpy(kinds)}
        loss, figures = 0.0, {}
        for name, (layer, what) in CHANGE_HEADS.items():
            tokens = hidden[layer][inputs["mm_token_type_ids"] == 1]
            tokens = tokens.view(*pictures.frames.shape[:2], BOARD**2, -1)[rows, frames, cells]
            logits = self.heads[name](tokens)
            loss = loss + 0.5 * F.cross_entropy(logits, truths[what])
            figures[name] = (logits.argmax(-1) == truths[what]).float().mean().item()
        return loss, figures

    def course_loss(self, hidden, pictures: Pictures, found, subjects):
        """Where an answer begins, all frames that its thing is seen in, or changes in, are known.

        Read by throw-away heads. Gives the loss, and the share of frames that are right.
        """
        rows, places, things = subjects
        changed = np.zeros(pictures.visible.shape, dtype=bool)
        changed[found[:3]] = found[3] > 0
        loss, figures = 0.0, {}
        for what, bits in (("seen in", pictures.visible), ("changes in", changed)):
            truth = torch.from_numpy(bits[rows, :, things])  # (answers, frames)
            logits = self.heads[what](hidden[rows, places])
            loss = loss + F.binary_cross_entropy_with_logits(logits, truth.float())
            figures[what] = ((logits > 0) == truth).float().mean().item()
        return loss, figures

    def subjects(self, texts: list[Pieces]) -> tuple[list[int], list[int], list[int]]:
        """Of every piece about a thing: its row, the place of its last token, the thing."""
        found = []
        for row, pieces in enumerate(texts):
            length = 0
            for text, _, *thing in pieces:
                length += len(self.tokenizer(text).input_ids)
                found += [(row, length - 1, i) for i in thing]
        return tuple(zip(*found, strict=True))

    def batch(self, pictures: Pictures, texts: list[Pieces]):
        """Model inputs and labels, padded on the right."""
        ids, labels = [], []
        for pieces in texts:
            tokens = [self.tokenizer(text).input_ids for text, *_ in pieces]
            ids.append(sum(tokens, []))
            parts = zip(tokens, pieces, strict=True)
            kept = ([t if learn else -100 for t in ts] for ts, (_, learn, *_) in parts)
            labels.append(sum(kept, []))
        width, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in ids])
        labels = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
        images = through_a_codec(pictures.frames.reshape(-1, SIZE, SIZE, 3), self.rng)
        inputs = {
            "input_ids": ids,
            "attention_mask": (ids != pad).long(),
            "mm_token_type_ids": (ids == self.model.config.image_token_id).int(),
            "pixel_values": to_patches(images),
            "image_grid_thw": _grid(len(images)),
        }
        return inputs, labels

    @torch.no_grad()
    def point(self, pictures: Pictures) -> dict[str, float]:
        """Ask where one visible thing is in each clip: share of right things, and mean IoU."""
        self.model.eval()
        asked, texts = [], []
        for b, seen in enumerate(pictures.visible):
            k = int(np.flatnonzero(seen.any(axis=1))[b % int(seen.any(axis=1).sum())])
            i = int(np.flatnonzero(seen[k])[0])
            asked.append((b, k, i))
            texts.append([(_ask(pictures, point_question(pictures, b, k, i)[0]), False)])
        inputs, _ = self.batch(pictures, texts)
        ids = self.model.generate(**inputs, max_new_tokens=14, do_sample=False)
        answers = self.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
        right, overlap = [], []
        for (b, k, i), answer in zip(asked, answers, strict=True):
            here = np.flatnonzero(pictures.visible[b, k])
            found = iou(np.repeat([read_box(answer)], len(here), 0), pictures.boxes[b, k, here])
            mine = found[list(here).index(i)]
            right.append(mine > 0 and mine == found.max())
            overlap.append(mine)
        self.model.train()
        return {"right": float(np.mean(right)), "IoU": float(np.mean(overlap))}

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        CLIP_FORMAT.save(folder)


def alike(vectors: torch.Tensor, words: torch.Tensor, truth: torch.Tensor):
    """Cross-entropy of cosine likeness to each word, and the share that is right."""
    logits = 12 * F.normalize(vectors, dim=-1) @ F.normalize(words, dim=-1).T
    right = (logits.argmax(-1) == truth).float().mean().item()
    return F.cross_entropy(logits, truth), right


def read_box(answer: str) -> np.ndarray:
    """The box in an answer, relative; an empty one where there is none."""
    inside = answer.partition("[")[2].partition("]")[0].split(",")
    numbers = [int(n) for n in inside if n.strip().isdigit()]
    return np.array(numbers if len(numbers) == 4 else [0] * 4) / 100


CHANGES = ["none", "appears", "left", "right", "up", "down", "grows", "shrinks"]
CHANGE_HEADS = {
    "before1": (1, "before"),
    "before2": (2, "before"),
    "change2": (2, "change"),
    "change3": (3, "change"),
}


def thing_changes(pictures: Pictures) -> tuple[np.ndarray, ...]:
    """What has changed in each visible thing since the frame before.

    Gives four arrays: row, frame (from 1), thing, and the number of its change in `CHANGES`.
    """
    before, boxes = pictures.boxes[:, :-1], pictures.boxes[:, 1:]
    x, y = np.moveaxis((boxes - before)[..., :2] + (boxes - before)[..., 2:], -1, 0) / 2
    width = (boxes - before)[..., 2] - (boxes - before)[..., 0]
    sizes = np.stack([-x, x, -y, y, width, -width])  # in the order of CHANGES[2:]
    kinds = np.where(sizes.max(axis=0) > 0.01, sizes.argmax(axis=0) + 2, 0)
    kinds[~pictures.visible[:, :-1]] = CHANGES.index("appears")
    rows, frames, things = np.nonzero(pictures.visible[:, 1:])
    return rows, frames + 1, things, kinds[rows, frames, things]


def centre_cells(boxes: np.ndarray) -> np.ndarray:
    """The number of the visual token that holds each box's centre."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    column, row = np.moveaxis(np.clip(centre * BOARD, 0, BOARD - 1).astype(int), -1, 0)
    return row * BOARD + column


def cell_owners(pictures: Pictures) -> np.ndarray:
    """Which thing has its centre in each visual token of the first frame, `(batch, cells)`."""
    boxes, visible = pictures.boxes[:, 0], pictures.visible[:, 0]
    owner = np.full((len(boxes), BOARD**2), -1)
    cells = centre_cells(boxes)
    for i in range(boxes.shape[1]):
        rows = np.flatnonzero(visible[:, i])
        owner[rows, cells[rows, i]] = i
    return owner


def _grid(images: int) -> torch.Tensor:
    return torch.tensor([[1, BOARD * MERGE, BOARD * MERGE]]).expand(images, 3)


@dataclass(frozen=True)
class Stage:
    """`frames` are the clip lengths to draw from at the start and from half-way on."""

    name: str
    steps: int
    batch: int  # pictures a step, about
    rate: float
    frames: tuple[tuple[int, ...], tuple[int, ...]]
    text: Callable | None = None
    turns: int = 5  # questions about a clip
    moving: float = 0.25  # share of the clips whose things move as in the benchmark
    changes: bool = False  # also learn `change_loss` and `course_loss`


STAGES = (
    Stage("encoder", 600, 128, 2e-3, ((1,), (1,))),
    Stage("places", 1200, 96, 1.5e-3, ((1, 1, 2), (1, 2, 3, 4, 8)), places_text),
    Stage("dialogue", 500, 96, 1e-3, ((1, 2, 4, 8), (4, 8, 8)), dialogue_text),
    Stage("practice", 1600, 96, 1e-3, ((2, 8, 8, 8), (2, 8, 8, 8)), dialogue_text, turns=12),
    Stage("lists", 350, 96, 7e-4, ((2, 8, 8, 8), (2, 8, 8, 8)), lists_text),
    Stage("changes", 500, 96, 1e-3, ((8,), (8,)), frames_text, turns=8, moving=0.5, changes=True),
    Stage("together", 700, 96, 1e-3, ((8,), (8,)), any_text, turns=7, moving=0.5, changes=True),
    Stage("course", 300, 96, 1e-3, ((8,), (8,)), most_text, turns=8, moving=0.6, changes=True),
)


def train_stage(run: Pretraining, stage: Stage, log: list[dict], progress: bool = True) -> None:
    """One stage: AdamW, a short warm-up, then a cosine down to a twentieth."""
    tower = list(run.model.model.visual.parameters())
    heads = list(run.heads.parameters())
    if stage.text is None:
        groups = [{"params": [*tower, *heads], "share": 1.0}]
    else:
        seen = {id(p) for p in tower}
        rest = [p for p in run.model.parameters() if id(p) not in seen] + heads
        groups = [{"params": rest, "share": 1.0}, {"params": tower, "share": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=stage.rate, weight_decay=0.01, betas=(0.9, 0.98))
    start, recent = time.time(), []
    bar = tqdm(range(stage.steps), desc=stage.name, disable=not progress)
    for step in bar:
        frames = int(run.rng.choice(stage.frames[2 * step >= stage.steps]))
        batch = max(8, 2 * stage.batch // (frames + 1))
        make = draw_clips if stage.text and run.rng.random() < stage.moving else draw_pictures
        pictures = make(run.rng, batch, frames)
        if stage.text is None:
            loss, figures = run.encoder_loss(pictures)
        else:
            texts = [stage.text(pictures, b, run.rng, stage.turns) for b in range(batch)]
            empty = [(_shown(pictures), False)]  # a clip with nothing in it
            texts = [text or empty for text in texts]
            loss, figures = run.text_loss(pictures, texts, stage.changes)
        cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * group["share"] * min(1, (step + 1) / 30, 0.05 + cosine)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
        optimizer.step()
        recent.append((frames, figures))
        if step % 50 == 49 or step == stage.steps - 1:
            log.append(_summary(run, stage, step + 1, time.time() - start, recent))
            bar.set_postfix(log[-1]["figures"])
            recent.clear()


def _summary(run: Pretraining, stage: Stage, step: int, seconds: float, recent) -> dict:
    line = {"stage": stage.name, "step": step, "seconds": round(seconds, 1), "figures": {}}
    for frames in sorted({frames for frames, _ in recent}):
        mine = [figures for count, figures in recent if count == frames]
        for name in sorted(set().union(*mine)):
            mean = np.mean([figures[name] for figures in mine if name in figures])
            line["figures"][f"{name}/{frames}"] = round(float(mean), 3)
    if stage.text is not None:
        fixed = np.random.default_rng(99)
        for frames in (1, 8):
            for name, value in run.point(draw_pictures(fixed, 32, frames)).items():
                line["figures"][f"point {name}/{frames}"] = round(value, 3)
    return line


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every stage's steps")
    args = parser.parse_args(argv)
    run, log = Pretraining(args.seed), []
    for stage in STAGES:
        done = args.out / stage.name
        if (done / "log.json").exists():  # an earlier, interrupted run got this far
            run.model = Qwen3VLForConditionalGeneration.from_pretrained(done).train()
            log = json.loads((done / "log.json").read_text())
            continue
        short = Stage(**{**vars(stage), "steps": max(2, round(stage.steps * args.scale))})
        run.rng = np.random.default_rng([args.seed, STAGES.index(stage)])
        train_stage(run, short, log)
        run.save(done)
        write_json(done / "log.json", log)
    run.save(args.out)
    write_json(args.out / "pretraining.json", {"seed": args.seed, "scale": args.scale, "log": log})


if __name__ == "__main__":
    main()
