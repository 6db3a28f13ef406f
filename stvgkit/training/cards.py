"""What goes on the hub beside weights and splits: a card for a model, and one for a dataset.

Both are written by the hub's own library, so that the hub can read what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard

from stvgkit.files import replacing
from stvgkit.rows import ClipFormat

TAGS = ["stvgkit", "spatio-temporal-video-grounding"]
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
    _save(card, path)


def describe_split(folder: Path | str, account: Mapping) -> None:
    """Write the card of a split that `stvgkit prepare` made; `account` is its `report.json`.

    The card says what was skipped and why, and that the videos are not part of it.

    >>> folder = getfixture("tmp_path")
    >>> account = {"benchmark": "hcstvg", "samples": 2, "groups": {}, "skipped": {}, "changed": {}}
    >>> describe_split(folder, account)
    >>> DatasetCard.load(folder / "README.md").data.tags
    ['stvgkit', 'spatio-temporal-video-grounding', 'hcstvg']
    """
    data = DatasetCardData(
        tags=[*TAGS, account["benchmark"]],
        pretty_name=f"{account['benchmark']}, prepared",
        configs=[{"config_name": "default", "data_files": "samples.jsonl"}],
    )
    lines = [f"- {name}: {count}" for name, count in account["groups"].items()]
    for kind in ("skipped", "changed"):
        for reason, listed in account[kind].items():
            lines.append(f"- {kind}, {reason}: {listed['count']}")
    listing = "\n".join(lines)
    card = DatasetCard(
        f"""---
{data.to_yaml()}
---

# {account["benchmark"]}, prepared for stvgkit

{account["samples"]} samples: a sentence, a span of video frames (both ends inclusive) and a box,
relative to the frame, for each of them. Annotations alone: the videos and their licences are the
benchmark's own. All ids that were left out or changed are in `report.json`.

{listing}
"""
    )
    _save(card, Path(folder) / "README.md")


def _save(card: ModelCard | DatasetCard, path: Path) -> None:
    with replacing(path) as out:
        out.write(str(card))
