"""Rows as a dataset for TRL, whose frames are decoded when a row is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from datasets import Dataset
from PIL.Image import Image

from stvgkit.errors import InputError, VideoError
from stvgkit.rows import row_images, row_messages

REWARD_COLUMNS = ("id", "target_frames", "target_boxes", "space")
MOST_BROKEN = 0.1  # of the rows: beyond that, something else is wrong than a clip


def row_dataset(rows: Sequence[dict], answer: Callable[[dict], str] | None = None) -> Dataset:
    """Rows as a dataset whose frames are decoded on access, in the columns that TRL reads.

    With `answer`, which gives a row's text, the rows are examples for SFT; without, they are
    prompts for GRPO with the columns that the rewards need. A row whose clip breaks gives its
    place to the next one, with a warning; `InputError` where more than one in ten breaks.
    """
    dataset = Dataset.from_dict({"number": range(len(rows))})
    return dataset.with_transform(_Decode(rows, answer))


class _Decode:
    """Turns numbers of rows into the columns that TRL reads."""

    def __init__(self, rows: Sequence[dict], answer: Callable[[dict], str] | None) -> None:
        self.rows, self.answer = rows, answer
        self.broken: dict[int, str] = {}

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        rows, images = zip(*map(self._shown, batch["number"]), strict=True)
        columns = {"prompt": [row_messages(row) for row in rows], "images": list(images)}
        if rows[0]["frames_as"] == "video":  # ours: TRL reads images alone
            columns |= {"video": columns.pop("images"), "times": [row["times"] for row in rows]}
        if self.answer is not None:
            texts = [{"role": "assistant", "content": self.answer(row)} for row in rows]
            return columns | {"completion": [[text] for text in texts]}
        return columns | {key: [row[key] for row in rows] for key in REWARD_COLUMNS}

    def _shown(self, number: int) -> tuple[dict, list[Image]]:
        """The row and its frames, or the first after it that can be read: the same each time."""
        for step in range(len(self.rows)):
            place = (number + step) % len(self.rows)
            if place not in self.broken:
                try:
                    return self.rows[place], row_images(self.rows[place])
                except VideoError as error:
                    self._note(place, error)
        raise AssertionError("a row is left, or `_note` has raised")

    def _note(self, place: int, error: VideoError) -> None:
        self.broken[place] = f"{self.rows[place]['id']} ({error})"
        count = f"{len(self.broken)} of {len(self.rows)} clips cannot be read"
        if len(self.broken) > MOST_BROKEN * len(self.rows):
            named = "; ".join(list(self.broken.values())[:3])
            raise InputError(
                f"{count}, more than one in ten: {named}; stvgkit prepare --check full leaves "
                "such clips out"
            ) from error
        warnings.warn(
            f"{count}, another takes its place: {self.broken[place]}", RuntimeWarning, stacklevel=2
        )
