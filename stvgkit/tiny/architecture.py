"""The tiny VLM's weights: a `Qwen3VLForConditionalGeneration` small enough for two CPU cores.

Departures from a random start, so that a short pre-training finds order, place and likeness: the
vision tower's position table starts as 2-D sines and cosines, the number and time tokens'
embeddings as sines and cosines of their value, and the language layers' keys equal to their
queries, so that a token looks first at tokens like itself.
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
            "rope_theta": 10000.0,
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
    token = tokenizer.convert_tokens_to_ids
    with torch.no_grad():
        words = model.model.language_model.embed_tokens.weight  # (vocabulary, hidden)
        words[token(NUMBERS)] = 0.1 * sinusoid(torch.arange(101), HIDDEN, longest=200)
        words[token(TIMES)] = 0.1 * sinusoid(torch.arange(len(TIMES)), HIDDEN, longest=200)
        for layer in model.model.language_model.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
        table = model.model.visual.pos_embed.weight  # (side * side, hidden)
        side = SIZE // PATCH
        place = sinusoid(torch.arange(side), HIDDEN // 2, longest=2 * side)  # (side, hidden / 2)
        rows = place[:, None].expand(side, side, -1)
        columns = place[None, :].expand(side, side, -1)
        table.copy_(0.3 * torch.cat([rows, columns], dim=-1).reshape(side * side, HIDDEN))
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def sinusoid(values: torch.Tensor, width: int, longest: float) -> torch.Tensor:
    """Sines and cosines of each value, `(n, width)`, with wavelengths from 4 to `longest`."""
    steps = torch.linspace(0, 1, width // 2)
    wavelengths = 4 * (longest / 4) ** steps
    angles = 2 * torch.pi * values[:, None] / wavelengths
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
