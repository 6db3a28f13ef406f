"""Load a model with its processor and the form in which it is asked: `load(name)`."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat
from stvgkit.tiny import CHECKPOINT

TINY = "tiny"

# What each family writes by itself (anchors: Qwen3-VL issues 676, 1871; VLM-R1 issue 198).
FAMILY_SPACES = {"qwen2_5_vl": "pixels", "qwen2_vl": "0-1000", "qwen3_vl": "0-1000"}

VIDEO_FAMILIES = ("qwen2_5_vl", "qwen3_vl")  # that tell a video's time steps apart by seconds


@dataclass(frozen=True)
class Grounder:
    """A model that can be asked when and where: weights, processor, form of the question.

    `weights` is `weights_digest` of what was loaded.
    """

    name: str
    model: Any
    processor: Any
    clip_format: ClipFormat
    weights: str | None = None

    @property
    def bits(self) -> int | None:
        """4 or 8 where the weights were quantized on loading."""
        wide = {n for n in (4, 8) if getattr(self.model, f"is_loaded_in_{n}bit", False)}
        return next(iter(wide), None)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), processor and clip format, so that `load(folder)` works."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        self.clip_format.save(folder)


def load(
    name: str, *, dtype: str = "auto", device: str | None = None, model_settings=None, **changes
) -> Grounder:
    """Load `"tiny"`, a checkpoint's folder, or a hub model such as `Qwen/Qwen3-VL-2B-Instruct`.

    A folder with a PEFT adapter gives its base model with the adapter on it. `model_settings` go
    to `from_pretrained` (`quantization_config`, `attn_implementation`, `revision`); `changes`
    replace fields of the model's `ClipFormat`. Raises `InputError` where there is no such model.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = model_path(name)
    base = adapter_base(path) or path
    try:
        processor = AutoProcessor.from_pretrained(path)
        model = AutoModelForImageTextToText.from_pretrained(
            base, dtype=dtype, **(model_settings or {})
        )
    except (OSError, ValueError) as error:
        adapter = "" if base == path else f", an adapter of {base!r},"
        raise InputError(
            f"cannot load the model {name!r}{adapter}: give 'tiny', a checkpoint's folder, or the "
            f"name of a vision-language model on the hub ({str(error).strip().splitlines()[0]})"
        ) from error
    if base != path:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, path, is_trainable=True)
    if device is not None:
        model.to(device)
    clip_format = clip_format_of(path, model.config, processor, **changes)
    keep_frame_size(processor, clip_format)
    # TRL pads prompts on the left, and what tells tokens from images as the tokenizer says.
    processor.tokenizer.padding_side = "left"
    return Grounder(name, model.eval(), processor, clip_format, weights_digest(name))


def model_path(name: str) -> str:
    """What `from_pretrained` takes for this name: a folder, or a name on the hub."""
    return str(CHECKPOINT) if name == TINY else name


def weights_digest(name: str) -> str | None:
    """A short name for the weights in a checkpoint's folder, an adapter's base included.

    It changes when they are trained further, and does not when the folder is moved. Of each file
    64 blocks are read: training moves all weights, and gigabytes take long. None for the hub.
    """
    path = Path(model_path(name))
    files = sorted(path.glob("*.safetensors"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as data:
            for block in range(64):
                data.seek(size * block // 64)
                digest.update(data.read(4096))
    if base := adapter_base(str(path)):
        digest.update((weights_digest(base) or base).encode())
    return digest.hexdigest()[:12]


def adapter_base(path: str) -> str | None:
    """The model that the PEFT adapter in this folder belongs to; None where there is none.

    Runs that were moved together, or are named from another folder, are found beside each other.
    """
    config = Path(path) / "adapter_config.json"
    if not config.is_file():
        return None
    base = json.loads(config.read_text())["base_model_name_or_path"]
    beside = Path(path).parent / Path(base).name
    if Path(base).is_dir() or ClipFormat.load(beside) is None:
        return base
    return str(beside)


def merge(grounder: Grounder) -> Grounder:
    """Fold a PEFT adapter into the weights, for servers and formats that know no adapters.

    A 4-bit base is rounded once more by this; load it in bf16 to merge exactly.
    """
    return replace(grounder, model=grounder.model.merge_and_unload())


def clip_format_of(path: str, config, processor, **changes) -> ClipFormat:
    """The form saved beside the checkpoint or one folder up, else its family's; then `changes`.

    Warns where the family's form is assumed: a model that was trained in another answers badly.
    """
    saved = ClipFormat.load(Path(path)) or ClipFormat.load(Path(path).resolve().parent)
    if saved is None:
        images = processor.image_processor
        factor = getattr(images, "patch_size", 1) * getattr(images, "merge_size", 1)
        space = FAMILY_SPACES.get(config.model_type, "0-1000")
        saved = ClipFormat(space=space, factor=factor)
        form = ", ".join(f"{k} {v}" for k, v in asdict(replace(saved, **changes)).items())
        warnings.warn(
            f"{path} has no {ClipFormat.FILE}: it is asked in the form of {config.model_type}, "
            f"which is assumed: {form}",
            stacklevel=3,
        )
    chosen = replace(saved, **changes)
    if chosen.frames_as == "video" and config.model_type not in VIDEO_FAMILIES:
        raise InputError(
            f"{path} is a {config.model_type}, whose video input is not known here: give frames_as "
            f"images, or a model of {' or '.join(VIDEO_FAMILIES)}"
        )
    return chosen


def keep_frame_size(processor, clip_format: ClipFormat) -> None:
    """Let the processor pass frames on at the size that `ClipFormat.frame_size` chose.

    Qwen3-VL's would enlarge a frame of fewer than 65,536 pixels, so boxes in pixels would no
    longer be those of the frame that the prompt names. Idefics3 and SmolVLM would cut each frame
    into tiles; one tile a frame is how they see video.
    """
    images = processor.image_processor
    if hasattr(images, "merge_size"):
        images.size = type(images)(
            size={"shortest_edge": clip_format.factor**2, "longest_edge": clip_format.max_side**2}
        ).size
    if hasattr(images, "do_image_splitting"):
        images.do_image_splitting = False
    videos = getattr(processor, "video_processor", None)
    if videos is not None and getattr(videos, "cap_pixels_per_frame", False) is None:
        videos.cap_pixels_per_frame = False  # nothing is resized; unset, it warns


def without_adapter(model):
    """The model itself, whether an adapter of PEFT is around it or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def vision_parts(model) -> dict:
    """The parts that see, by name: all of a vision-language model but its language model."""
    parts = model.model.named_children()
    return {name: part for name, part in parts if name not in ("language_model", "text_model")}
