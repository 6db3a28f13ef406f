"""Sample several answers to each prompt, reading frames and prompt once.

`generate` of transformers would encode the frames and read the prompt once for every answer, and
would go on with all answers until the longest has ended. Here

- each prompt is read once, and the rows of its cache are repeated for its answers;
- keys and values are written into buffers that are long enough, not joined anew at each token;
- an answer that has ended leaves the batch; so does one that cannot become a valid answer any
  more, if `hopeless` says so. Nothing that follows could change its rewards, which are all 0.

The next token's distribution is the one of `generate`, with the same temperature, top-k, top-p and
min-p. Simplified away: beams, penalties and other processors of logits; see `can_sample`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad
from transformers import (
    Cache,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer

from stvgkit.training.packing import Prompt, join_media, runs

ROOM = 128  # tokens by which a buffer grows
CROWD = 0.8  # rows are taken out of the buffers when this share of them, or less, goes on

# The settings of a generation that are honoured here; any other has to be at its default.
SETTINGS = {
    "max_new_tokens", "do_sample", "pad_token_id", "bos_token_id", "eos_token_id", "temperature",
    "top_p", "top_k", "min_p", "suppress_tokens", "disable_compile", "transformers_version",
}  # fmt: skip


def can_sample(config: GenerationConfig) -> bool:
    """Whether every setting of this configuration is one that `sample` knows."""
    neutral = {"repetition_penalty": 1.0, "cache_implementation": None}
    return all(
        key in SETTINGS or (key in neutral and value == neutral[key])
        for key, value in config.to_diff_dict().items()
    )


class BufferLayer(DynamicLayer):
    """Keys and values of one layer in buffers `(rows, heads, room, size)`, filled from the left."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.length = keys.shape[-2]
        self.keys, self.values = keys, values

    def update(self, key_states, value_states, *args, **kwargs):
        end = self.length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.keys, self.values = (pad(x, (0, 0, 0, ROOM)) for x in (self.keys, self.values))
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def keep(self, rows: torch.Tensor) -> None:
        """Leave these rows alone."""
        self.keys, self.values = self.keys[rows], self.values[rows]


@torch.no_grad()
def sample(
    model,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    hopeless: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """One answer for each entry of `prompts` as token numbers, its end token with it.

    Entries that follow one another and are the very same prompt share the work. `hopeless` is
    asked after each token of an answer, and ends the answer there where it says so.
    """
    groups = list(runs(prompts))
    read = [prompts[group[0]] for group in groups]
    repeats = torch.tensor([len(group) for group in groups], device=read[0].ids.device)
    logits, cache, attention = _read(model, read)  # (G, V), -, (G, P)
    logits, attention = (
        logits.repeat_interleave(repeats, 0),
        attention.repeat_interleave(repeats, 0),
    )
    cache = Cache(
        layers=[
            BufferLayer(*(x.repeat_interleave(repeats, 0) for x in (layer.keys, layer.values)))
            for layer in cache.layers
        ]
    )
    position = torch.tensor([prompt.next_position for prompt in prompts], device=logits.device)
    axes, named = len(read[0].positions), cache_name(model)
    warp, ends = _warpers(config, logits.device), set(_listed(config.eos_token_id))
    answers: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts), device=logits.device)  # the answers that the batch holds
    going = torch.ones(len(prompts), dtype=torch.bool, device=logits.device)
    for step in range(config.max_new_tokens):
        chances = warp(None, logits.float()).softmax(-1)
        tokens = torch.multinomial(chances, 1)  # (rows, 1)
        for place, (row, token) in enumerate(
            zip(rows.tolist(), tokens[:, 0].tolist(), strict=True)
        ):
            if going[place]:
                answers[row].append(token)
                over = token in ends or (hopeless is not None and hopeless(answers[row]))
                going[place] = not over
        if not going.any() or step + 1 == config.max_new_tokens:
            break
        if going.float().mean() <= CROWD:
            kept = going.nonzero()[:, 0]
            rows, tokens, position, attention, going = (
                x[kept] for x in (rows, tokens, position, attention, going)
            )
            for layer in cache.layers:
                layer.keep(kept)
        attention = pad(attention, (0, 1), value=1)
        positions = (position + step)[:, None]  # (rows, 1)
        outputs = model(
            input_ids=tokens,
            attention_mask=attention,
            position_ids=positions.expand(axes, -1, -1) if axes > 1 else positions,
            use_cache=True,
            **{named: cache},
        )
        logits = outputs.logits[:, -1]
    return answers


def _read(model, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """Logits behind each prompt, the cache of all, and where its rows hold tokens, `(G, P)`."""
    longest = max(len(prompt.ids) for prompt in prompts)

    def left(row: torch.Tensor) -> torch.Tensor:
        return pad(row, (longest - row.shape[-1], 0))

    attention = torch.stack([left(torch.ones_like(prompt.ids)) for prompt in prompts])
    positions = torch.stack([left(prompt.positions) for prompt in prompts], dim=1)  # (A, G, P)
    cache = DynamicCache(config=model.config)
    outputs = model(
        input_ids=torch.stack([left(prompt.ids) for prompt in prompts]),
        attention_mask=attention,
        position_ids=positions if len(positions) > 1 else positions[0],
        use_cache=True,
        logits_to_keep=1,
        **{cache_name(model): cache},
        **join_media([prompt.media for prompt in prompts]),
    )
    return outputs.logits[:, -1], cache, attention


def cache_name(model) -> str:
    """What the model's forward calls its cache: it has another name from transformers 5.24 on."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = inspect.signature(type(plain).forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def _warpers(config: GenerationConfig, device) -> LogitsProcessorList:
    """The processors of `generate`, in its order."""
    chain = LogitsProcessorList()
    if config.suppress_tokens is not None:
        chain.append(SuppressTokensLogitsProcessor(config.suppress_tokens, device=device))
    if config.temperature not in (None, 1.0):
        chain.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        chain.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        chain.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        chain.append(MinPLogitsWarper(config.min_p))
    return chain


def _listed(ids: int | Sequence[int] | None) -> Sequence[int]:
    return () if ids is None else [ids] if isinstance(ids, int) else ids
