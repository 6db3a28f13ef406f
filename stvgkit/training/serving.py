"""Ask a model that another engine runs: a vLLM in this process, or any OpenAI-compatible server.

The frames are sent as PNG, at the size and in the order that training saw them. The engine's own
processor must not resize them again: `vllm` is told so here, a server has to be started so
(docs/gpu.md has the command).
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat, row_images, row_messages
from stvgkit.training.models import clip_format_of, model_path

Ask = Callable[[Sequence[dict]], list[str]]


def backend(task, model, asking) -> tuple[ClipFormat, Ask]:
    """The clip format and the `ask` for `evaluation.predict` of a recipe's backend."""
    clip_format = _clip_format(model.model_name_or_path, task.clip_changes())
    if asking.backend == "openai":
        return clip_format, Server(asking.url, model.model_name_or_path, asking.max_new_tokens)
    engine = VLLM(model.model_name_or_path, clip_format, model.dtype, asking.max_new_tokens)
    return clip_format, engine


def _clip_format(name: str, changes: dict) -> ClipFormat:
    """The model's own, for which its configuration and processor are read, but no weights."""
    from transformers import AutoConfig, AutoProcessor

    path = model_path(name)
    try:
        config, processor = AutoConfig.from_pretrained(path), AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        if "space" in changes:  # a model behind a server, of which we know nothing
            return ClipFormat(**changes)
        raise InputError(
            f"the processor of {name!r} is not at hand, so in which numbers it answers is not "
            "known: give --space 0-1000 or --space pixels"
        ) from error
    return clip_format_of(path, config, processor, **changes)


def chat_of(row: dict) -> list[dict]:
    """A row's prompt with its frames inside, as OpenAI's chat protocol writes them."""
    messages, images = row_messages(row), iter(row_images(row))
    for message in messages:
        for part in message["content"]:
            if part["type"] == "image":
                part["type"], part["image_url"] = "image_url", {"url": data_url(next(images))}
    return messages


def data_url(image) -> str:
    """A picture as a PNG in a `data:` URL, without any loss.

    >>> from PIL import Image
    >>> data_url(Image.new("RGB", (1, 1)))[:26]
    'data:image/png;base64,iVBO'
    """
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True)
class Server:
    """A server that speaks OpenAI's chat protocol; called with rows, it gives their answers."""

    url: str
    model: str
    max_new_tokens: int
    timeout: float = 600.0  # seconds for one answer; a long clip on a busy server takes minutes

    def __call__(self, rows: Sequence[dict]) -> list[str]:
        with ThreadPoolExecutor(len(rows)) as pool:  # the server makes a batch of them
            return list(pool.map(self.answer, rows))

    def answer(self, row: dict) -> str:
        """The answer to one row, greedy."""
        request = {
            "model": self.model,
            "messages": chat_of(row),
            "max_tokens": self.max_new_tokens,
            "temperature": 0.0,
        }
        where = f"{self.url.rstrip('/')}/chat/completions"
        headers = {"Content-Type": "application/json"}
        post = urllib.request.Request(where, json.dumps(request).encode(), headers)
        try:
            with urllib.request.urlopen(post, timeout=self.timeout) as reply:
                return json.load(reply)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode(errors="replace")
            raise InputError(f"{where} refused sample {row['id']}: {error} {said}") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"no answer from {where} for sample {row['id']} ({error}): is the server running? "
                "Run the same command again to go on"
            ) from error


class VLLM:
    """vLLM's engine in this process; called with rows, it gives their answers."""

    def __init__(self, model: str, clip_format: ClipFormat, dtype: str, max_new_tokens: int):
        self.model, self.clip_format, self.dtype = model, clip_format, dtype
        self.max_new_tokens = max_new_tokens
        self.engine = None

    def __call__(self, rows: Sequence[dict]) -> list[str]:
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise InputError("--backend vllm needs vLLM: pip install vllm (Linux, GPU)") from error
        if self.engine is None:  # `predict` asks about the longest clips first
            most = max(len(row["frames"]) for row in rows)
            side, factor = self.clip_format.max_side, self.clip_format.factor
            self.engine = LLM(
                model=model_path(self.model),
                dtype=self.dtype,
                limit_mm_per_prompt={"image": most},
                mm_processor_kwargs={"size": {"shortest_edge": factor**2, "longest_edge": side**2}},
            )
        sampling = SamplingParams(temperature=0.0, max_tokens=self.max_new_tokens)
        answers = self.engine.chat([chat_of(row) for row in rows], sampling)
        return [answer.outputs[0].text for answer in answers]
