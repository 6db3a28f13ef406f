"""The tiny VLM's weights: a `Qwen3VLForConditionalGeneration` small enough for two CPU cores.

From a random start, pre-training would take far more than minutes to bind a name to its place. So
this start leans towards what attention has to become:

- Numbers start as sines and cosines of their value, and so do the vision tower's positions. So
  order and place need not be found, and the number of a frame resembles the frame's time stamp.
- Words and visual tokens differ along one direction. Half of the heads look for tokens of the
  *other* kind that are otherwise alike: " red" looks at what is red.
- Attention passes on a part of what it looked at, and branches start with small weights.
"""

from __future__ import annotations

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from stvgkit.datasets.shapes import SIZE
from stvgkit.tiny.tokenizer import MERGE, NUMBERS, PATCH, TIMES

HIDDEN = 128


def build_config(tokenizer) -> Qwen3VLConfig:
    """Four layers of width 128 behind a two-layer vision tower of the same width."""
    token = tokenizer.convert_tokens_to_ids
    text = dict(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=HIDDEN // 4,
        max_position_embeddings=2048,
        initializer_range=0.06,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    vision = dict(
        depth=2,
        hidden_size=HIDDEN,
        intermediate_size=384,
        num_heads=4,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        temporal_patch_size=2,
        out_hidden_size=HIDDEN,
        num_position_embeddings=(SIZE // PATCH) ** 2,
        deepstack_visual_indexes=[0],
        initializer_range=0.06,
    )
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_model(tokenizer, seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """An untrained model with the ordinal and positional starts."""
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(build_config(tokenizer))
    with torch.no_grad():
        _start_in_order(model, tokenizer)
        _start_alike(model)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def _start_in_order(model, tokenizer) -> None:
    token = tokenizer.convert_tokens_to_ids
    words = model.model.language_model.embed_tokens.weight  # (vocabulary, hidden)
    words[token(NUMBERS)] = 0.1 * sinusoid(torch.arange(len(NUMBERS)), HIDDEN, longest=200)
    # Frame k has the time stamp k: the two words share a part that no other word has.
    frames = 0.1 * torch.randn(len(TIMES), HIDDEN)
    words[token(TIMES)] = frames
    words[token(NUMBERS[: len(TIMES)])] += 0.7 * frames
    side = SIZE // PATCH
    place = sinusoid(torch.arange(side), HIDDEN // 2, longest=2 * side)  # (side, hidden / 2)
    rows = place[:, None].expand(side, side, -1)
    columns = place[None, :].expand(side, side, -1)
    table = torch.cat([rows, columns], dim=-1).reshape(side * side, HIDDEN)
    model.model.visual.pos_embed.weight.copy_(0.3 * table)


def _start_alike(model) -> None:
    text, visual = model.model.language_model, model.model.visual
    kind = torch.nn.functional.normalize(torch.randn(HIDDEN), dim=0)
    text.embed_tokens.weight.sub_(0.5 * kind)
    visual.merger.linear_fc2.weight.mul_(0.1)
    visual.merger.linear_fc2.bias.add_(1.5 * kind)
    for merger in visual.deepstack_merger_list:
        merger.linear_fc2.weight.mul_(0.05)
    swap_kind = torch.eye(HIDDEN) - 2 * torch.outer(kind, kind)
    for layer in text.layers:
        attention = layer.self_attn
        half = HIDDEN // 2  # the first two of four heads
        attention.q_proj.weight[:half] = attention.k_proj.weight[:half] @ swap_kind
        attention.q_norm.weight.mul_(1.5)
        attention.o_proj.weight.copy_(0.2 * attention.v_proj.weight.T)
        layer.mlp.down_proj.weight.mul_(0.15)


def sinusoid(values: torch.Tensor, width: int, longest: float) -> torch.Tensor:
    """Sines and cosines of each value, `(n, width)`, with wavelengths from 4 to `longest`."""
    steps = torch.linspace(0, 1, width // 2)
    wavelengths = 4 * (longest / 4) ** steps
    angles = 2 * torch.pi * values[:, None] / wavelengths
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
