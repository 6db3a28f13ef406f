"""The tiny VLM's tokenizer and processor: numbers, the answer format's marks, a few dozen words.

Every number from 0 to 100 is one token, and so are `", "`, `". ["`, `"], "` and the time stamps
`<0.0 seconds>` to `<15.5 seconds>`, which keeps a box at ten tokens. Any other word is `<unk>`.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from stvgkit.datasets.shapes import COLOURS, EVENTS, SHAPES, SIZE

PATCH = 8  # pixels
MERGE = 2  # patches on a side that become one visual token

CHAT = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
CHAT += ["<|image_pad|>", "<|video_pad|>", "<|endoftext|>"]
TAGS = [f"<{slash}{tag}>" for tag in ("time", "think_bbox", "pred_bbox") for slash in ("", "/")]
TIMES = [f"<{half / 2:.1f} seconds>" for half in range(32)]
NUMBERS = [str(n) for n in range(101)]
MARKS = ["\n", " ", ". [", "[", ", ", "], ", "]", " - ", ": ", ":", ",", ".", "-", "?"]
ROLES = ["system", "user", "assistant"]
CELLS = [f"{column}{row}" for row in range(1, 5) for column in "abcd"]  # as on a chess board
WORDS = ["find", "point", "name", "cell", "frame", "none", "a", "the", "in", "that", "and"]
WORDS += [*COLOURS, *SHAPES, *{word: 0 for event in EVENTS for word in event.split()}]

# Longest pieces first; a word takes the space before it along, as in most tokenizers.
PIECES = r"<[^<>]*>|[a-d][1-4]|[0-9]+|\. \[|\], |, | - |: | ?[A-Za-z]+|\s|."

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif part.type == 'text' -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer; decoding gives back the text exactly, but for unknown words.

    >>> tokenizer = build_tokenizer()
    >>> tokenizer.tokenize("5. [27, 30, 39, 21], ")
    ['5', '. [', '27', ', ', '30', ', ', '39', ', ', '21', '], ']
    """
    words = [space + word for word in ROLES + WORDS for space in ("", " ")]
    pieces = ["<unk>", *CHAT, *TAGS, *TIMES, *NUMBERS, *MARKS, *CELLS, *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CHAT])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor() -> Qwen3VLProcessor:
    """A real `Qwen3VLProcessor` around the tiny tokenizer, for frames of 64 x 64 pixels."""
    shape = dict(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        video_processor=Qwen3VLVideoProcessor(**shape),
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    )
