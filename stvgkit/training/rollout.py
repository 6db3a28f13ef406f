"""Sample several answers to each prompt, reading frames and prompt once.

`generate` of transformers would encode the frames and read the prompt once for every answer, and
would go on with all answers until the longest has ended. Here

- each prompt is read once, and its cache is kept once for all of its answers (`CachedLayout`);
- an answer's keys and values are written into buffers, not joined anew at each token;
- an adapter of 32 bits is added into the weights meanwhile (`merged`);
- an answer that has ended leaves the batch; so does one that cannot become a valid answer any
  more, if `hopeless` says so. Nothing that follows could change its rewards, which are all 0.

The next token's distribution is the one of `generate`, with the same temperature, top-k, top-p and
min-p. Simplified away: beams, penalties and other processors of logits; see `can_sample`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
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

from stvgkit.training.models import without_adapter
from stvgkit.training.packing import Prompt, join_media, runs
from stvgkit.training.shared_attention import CachedLayout, layout_inputs

ROOM = 128  # tokens by which a buffer grows
CROWD = 0.8  # rows are taken out of the buffers when this share of them, or less, goes on
GLANCE = 8  # tokens after which an answer is looked at; it is cut where it became hopeless

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

    length = 0

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
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
        if self.is_initialized:
            self.keys, self.values = self.keys[rows], self.values[rows]


@torch.no_grad()
def sample(
    model,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    hopeless: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """One answer for each entry of `prompts` as token numbers, its end token with it.

    Entries that follow one another and are the very same prompt share the work. An answer ends
    with the first token of which `hopeless` says that nothing behind it can help.
    """
    groups = runs(prompts)
    read = [prompts[group[0]] for group in groups]
    logits, cache, real = _read(model, read)  # (G, V), -, (G, P)
    owners = [number for number, group in enumerate(groups) for _ in group]
    owner = torch.tensor(owners, device=logits.device)
    logits = logits[owner]
    layers = cache.layers
    layout = CachedLayout([x.keys for x in layers], [x.values for x in layers], real, owner)
    cache = Cache(layers=[BufferLayer() for _ in layers])
    position = torch.tensor([prompt.next_position for prompt in prompts], device=logits.device)
    axes, named = len(read[0].positions), cache_name(model)
    warp, ends = _warpers(config, logits.device), set(_listed(config.eos_token_id))
    answers: list[list[int]] = [[] for _ in prompts]
    rows, going = list(range(len(prompts))), [True] * len(prompts)  # what the batch holds
    for step in range(config.max_new_tokens):
        chances = warp(None, logits.float()).softmax(-1)
        tokens = torch.multinomial(chances, 1)  # (rows, 1)
        last = step + 1 == config.max_new_tokens
        for place, token in enumerate(tokens[:, 0].tolist()):
            if going[place]:
                answer = answers[rows[place]]
                answer.append(token)
                ended = last or token in ends
                if hopeless and (ended or len(answer) % GLANCE == 0):
                    ended |= _cut(answer, hopeless)
                going[place] = not ended
        if not any(going):
            break
        if sum(going) <= CROWD * len(going):
            places = [place for place, goes in enumerate(going) if goes]
            rows, going = [rows[place] for place in places], [True] * len(places)
            kept = torch.tensor(places, device=logits.device)
            tokens, position = tokens[kept], position[kept]
            layout.keep(kept)
            for layer in cache.layers:
                layer.keep(kept)
        positions = (position + step)[:, None]  # (rows, 1)
        outputs = model(
            input_ids=tokens,
            position_ids=positions.expand(axes, -1, -1) if axes > 1 else positions,
            use_cache=True,
            **layout_inputs(layout, tokens.device),
            **{named: cache},
        )
        logits = outputs.logits[:, -1]
    return answers


def _cut(answer: list[int], hopeless: Callable[[list[int]], bool]) -> bool:
    """Cut a hopeless answer behind the token that made it so; returns whether it is one."""
    if not hopeless(answer):
        return False
    while hopeless(answer[:-1]):
        del answer[-1]
    return True


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
    return outputs.logits[:, -1], cache, attention.bool()


@contextmanager
def merged(model) -> Iterator[None]:
    """Hold an adapter's part in the weights, and put the plain layers in its layers' places.

    Afterwards the weights are what they were, bit by bit. In 16 bits or fewer a sum would lose the
    adapter's small part, so there it stays apart.
    """
    named = model.named_modules()
    layers = {name: part for name, part in named if isinstance(part, BaseTunerLayer)}
    weights = [layer.get_base_layer().weight for layer in layers.values()]
    if not weights or any(weight.dtype != torch.float32 for weight in weights):
        yield
        return
    before = [weight.data.clone() for weight in weights]
    model.merge_adapter()
    for name, layer in layers.items():
        model.set_submodule(name, layer.get_base_layer())
    try:
        yield
    finally:
        for name, layer in layers.items():
            model.set_submodule(name, layer)
        model.unmerge_adapter()
        for weight, values in zip(weights, before, strict=True):
            weight.data.copy_(values)


def cache_name(model) -> str:
    """What the model's forward calls its cache: it has another name from transformers 5.24 on."""
    known = inspect.signature(type(without_adapter(model)).forward).parameters
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
