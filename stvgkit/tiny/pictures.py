"""The pictures that the tiny VLM learns from: drawn things, and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from stvgkit.boxes import iou
from stvgkit.datasets.shapes import COLOURS, SHAPES, SIZE, STEPS, STRIDE, draw, make_scene, render
from stvgkit.tiny.tokenizer import CELLS, MERGE, PATCH

BOARD = SIZE // (PATCH * MERGE)  # visual tokens on a side

CHANGES = ["none", "appears", "left", "right", "up", "down", "grows", "shrinks"]


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
