"""What the tiny VLM is to learn from pictures and texts: its losses, and how well it points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from stvgkit.boxes import iou
from stvgkit.datasets.shapes import COLOURS, SHAPES, SIZE, STEPS
from stvgkit.rows import ClipFormat
from stvgkit.tiny.architecture import build_model
from stvgkit.tiny.pictures import (
    BOARD,
    CHANGES,
    Pictures,
    cell_owners,
    centre_cells,
    thing_changes,
    through_a_codec,
    to_patches,
)
from stvgkit.tiny.texts import Pieces, ask, point_question
from stvgkit.tiny.tokenizer import CELLS, MERGE, PATCH, TIMES, build_processor

CLIP_FORMAT = ClipFormat(space="0-100", template="short", max_side=SIZE, factor=PATCH * MERGE)

CHANGE_HEADS = {
    "before1": (1, "before"),
    "before2": (2, "before"),
    "change2": (2, "change"),
    "change3": (3, "change"),
}


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
        rows, places, things = (list(column) for column in zip(*found, strict=True))
        return rows, places, things

    def batch(self, pictures: Pictures, texts: list[Pieces]):
        """Model inputs and labels, padded on the right."""
        ids: list[list[int]] = []
        labels: list[list[int]] = []
        for pieces in texts:
            each = [self.tokenizer(text).input_ids for text, *_ in pieces]
            ids.append(sum(each, []))
            parts = zip(each, pieces, strict=True)
            kept = ([t if learn else -100 for t in ts] for ts, (_, learn, *_) in parts)
            labels.append(sum(kept, []))
        width, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        tokens = torch.tensor([row + [pad] * (width - len(row)) for row in ids])
        wanted = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
        images = through_a_codec(pictures.frames.reshape(-1, SIZE, SIZE, 3), self.rng)
        inputs = {
            "input_ids": tokens,
            "attention_mask": (tokens != pad).long(),
            "mm_token_type_ids": (tokens == self.model.config.image_token_id).int(),
            "pixel_values": to_patches(images),
            "image_grid_thw": _grid(len(images)),
        }
        return inputs, wanted

    @torch.no_grad()
    def point(self, pictures: Pictures) -> dict[str, float]:
        """Ask where one visible thing is in each clip: share of right things, and mean IoU."""
        self.model.eval()
        asked: list[tuple[int, int, int]] = []
        texts: list[Pieces] = []
        for b, seen in enumerate(pictures.visible):
            k = int(np.flatnonzero(seen.any(axis=1))[b % int(seen.any(axis=1).sum())])
            i = int(np.flatnonzero(seen[k])[0])
            asked.append((b, k, i))
            texts.append([(ask(pictures, point_question(pictures, b, k, i)[0]), False)])
        inputs, _ = self.batch(pictures, texts)
        ids = self.model.generate(**inputs, max_new_tokens=14, do_sample=False)
        answers = self.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
        right, overlap = [], []
        for (b, k, i), answer in zip(asked, answers, strict=True):
            here = np.flatnonzero(pictures.visible[b, k])
            found = iou(np.repeat([read_box(answer)], len(here), 0), pictures.boxes[b, k, here])
            mine = found[here.tolist().index(i)]
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


def _grid(images: int) -> torch.Tensor:
    return torch.tensor([[1, BOARD * MERGE, BOARD * MERGE]]).expand(images, 3)
