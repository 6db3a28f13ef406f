"""The card of a trained model, which goes on the hub beside its weights.

It is written by the hub's own library, so that the hub can read what it shows.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from huggingface_hub import ModelCard

from stvgkit.datasets.prepare import TAGS
from stvgkit.files import replacing
from stvgkit.rows import ClipFormat

ASKED = "## How it is asked"


def describe_model(folder: Path | str, clip_format: ClipFormat) -> None:
    """Add to the card that TRL wrote in `folder` how the model has to be asked."""
    path = Path(folder) / "README.md"
    card = ModelCard.load(path)
    card.data.tags = sorted({*(card.data.tags or []), *TAGS})
    card.data.pipeline_tag = "video-text-to-text"
    text = card.text.split(ASKED)[0].rstrip()
    settings = "\n".join(f"- `{name}`: {value}" for name, value in asdict(clip_format).items())
    card.text = f"""{text}

{ASKED}

The model is given a clip as timestamped frames with a sentence, and says when its subject does
what the sentence tells, and where: one box for each frame. It was trained on clips of this form
(`clip_format.json`), and has to be asked in it:

{settings}

    stvgkit predict --model FOLDER_OR_NAME --annotations samples.jsonl --out predictions.jsonl
"""
    with replacing(path) as out:
        out.write(str(card))
