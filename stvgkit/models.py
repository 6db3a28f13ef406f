"""Load a model with its processor and the form in which it is asked: `load(name)`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat
from stvgkit.tiny import CHECKPOINT

TINY = "tiny"

# What each family writes by itself (anchors: Qwen3-VL issues 676, 1871; VLM-R1 issue 198).
FAMILY_SPACES = {"qwen2_5_vl": "pixels", "qwen2_vl": "0-1000", "qwen3_vl": "0-1000"}


@dataclass(frozen=True)
class Grounder:
    """A model that can be asked when and where: weights, processor, and the form of the question."""

    name: str
    model: object
    processor: object
    clip_format: ClipFormat

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), processor and clip format, so that `load(folder)` works."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        self.clip_format.save(folder)


def load(name: str, *, dtype: str = "auto", device: str | None = None, **changes) -> Grounder:
    """Load `"tiny"`, a checkpoint's folder, or a model of the hub such as `Qwen/Qwen3-VL-2B-Instruct`.

    `changes` replace fields of the model's `ClipFormat`. Raises `InputError` where there is no
    such model.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = str(CHECKPOINT) if name == TINY else name
    try:
        processor = AutoProcessor.from_pretrained(path)
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the model {name!r}: give 'tiny', a checkpoint's folder, or the name of a "
            f"vision-language model on the hub ({str(error).strip().splitlines()[0]})"
        ) from error
    if device is not None:
        model.to(device)
    return Grounder(name, model.eval(), processor, clip_format_of(path, model, processor, **changes))


def clip_format_of(path: str, model, processor, **changes) -> ClipFormat:
    """The form saved beside the checkpoint, else that of the model's family; then `changes`."""
    from dataclasses import replace

    saved = ClipFormat.load(Path(path))
    if saved is None:
        images = processor.image_processor
        factor = getattr(images, "patch_size", 1) * getattr(images, "merge_size", 1)
        space = FAMILY_SPACES.get(model.config.model_type, "0-1000")
        saved = ClipFormat(space=space, factor=factor)
    return replace(saved, **changes)
