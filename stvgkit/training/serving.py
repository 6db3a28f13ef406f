"""Ask a model that another engine runs: a vLLM in this process, or any OpenAI-compatible server.

The frames are sent as PNG, at the size and in the order that training saw them. The engine's own
processor must not resize them again: `vllm` is told so here, a server has to be started so
(docs/gpu.md has the command).
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from stvgkit.errors import InputError
from stvgkit.rows import ClipFormat, row_images, row_messages
from stvgkit.training.lines import NoAnswer
from stvgkit.training.models import clip_format_of, model_path
from stvgkit.training.outside import plain_rows

Ask = Callable[[Sequence[dict]], Sequence[str | NoAnswer]]


def backend(task, model, asking) -> tuple[ClipFormat, Ask]:
    """The clip format and the `ask` for `evaluation.predict` of a recipe's backend."""
    name = model.model_name_or_path
    clip_format, processor = _form_of(name, task.clip_changes())
    if asking.backend == "openai":
        server = Server(asking.url, name, asking.max_new_tokens, asking.api_key, processor)
        return clip_format, server
    return clip_format, VLLM(name, clip_format, model.dtype, asking.max_new_tokens, processor)


def _form_of(name: str, changes: dict) -> tuple[ClipFormat, Any]:
    """The model's clip format and processor, for which its configuration is read, but no weights.

    Of a model behind a server that is not at hand here, the processor is None.
    """
    from transformers import AutoConfig, AutoProcessor

    path = model_path(name)
    try:
        config, processor = AutoConfig.from_pretrained(path), AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        if "space" in changes:
            return _as_images(ClipFormat(**changes)), None
        raise InputError(
            f"the processor of {name!r} is not at hand, so in which numbers it answers is not "
            "known: give --space 0-1000 or --space pixels"
        ) from error
    return _as_images(clip_format_of(path, config, processor, **changes)), processor


def _as_images(clip_format: ClipFormat) -> ClipFormat:
    if clip_format.frames_as != "images":
        raise InputError(
            "a server is sent pictures: give --frames_as images, or --backend transformers"
        )
    return clip_format


def chat_of(row: dict, processor=None) -> list[dict]:
    """A row's prompt with its frames inside, as OpenAI's chat protocol writes them.

    `processor`, where it is at hand, tells which texts are control tokens; see `outside`.
    """
    (row,) = plain_rows([row], processor)
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


PAUSES = (1.0, 4.0, 16.0)  # seconds before the second, third and fourth try
IN_A_ROW = 8  # samples that got no answer one after the other: the server is gone
REFUSED = {
    401: "give --api_key or OPENAI_API_KEY",
    403: "is the key allowed to?",
    404: "check --url and --model",
}


class Server:
    """A server that speaks OpenAI's chat protocol; called with rows, it gives their answers.

    What fails is tried again after growing pauses, then given up for this sample alone. Raises
    `InputError` where nothing listens, where the key or the model is refused, and where `IN_A_ROW`
    samples got no answer.
    """

    def __init__(
        self, url: str, model: str, max_new_tokens: int, api_key: str | None = None, processor=None
    ):
        self.where = f"{_checked(url).rstrip('/')}/chat/completions"
        self.model, self.max_new_tokens, self.processor = model, max_new_tokens, processor
        self.api_key = _printable(api_key or os.environ.get("OPENAI_API_KEY", ""))
        self.timeout = 600.0  # seconds for one answer; a long clip on a busy server takes minutes
        self.reached = False
        self.failed_in_a_row = 0

    def __call__(self, rows: Sequence[dict]) -> list[str | NoAnswer]:
        with ThreadPoolExecutor(len(rows)) as pool:  # the server makes a batch of them
            return list(pool.map(self.answer, rows))

    def answer(self, row: dict) -> str | NoAnswer:
        """The answer to one row, greedy; after the last try, why there is none."""
        request = {
            "model": self.model,
            "messages": chat_of(row, self.processor),
            "max_tokens": self.max_new_tokens,
            "temperature": 0.0,
        }
        for pause in (*PAUSES, None):
            try:
                reply = self._post(request)
            except urllib.error.HTTPError as error:
                problem = self._refusal(error)
                if error.code < 500 and error.code not in (408, 429):
                    break  # the same question gets the same reply
            except (OSError, HTTPException, ValueError, RecursionError) as error:
                problem = f"no answer from {self.where} ({error or type(error).__name__})"
                if not self.reached and isinstance(error, urllib.error.URLError):
                    raise InputError(f"{problem}: is the server running?") from error
                if isinstance(error, TimeoutError):  # it has taken minutes already
                    break
            else:
                self.failed_in_a_row = 0
                return _text_of(reply)
            if pause is not None:
                time.sleep(pause)
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= IN_A_ROW:
            raise InputError(
                f"{problem}, for {IN_A_ROW} samples one after the other: is the server running? "
                "Run the same command again to go on"
            )
        return NoAnswer(f"the server gave no answer: {problem}")

    def _post(self, request: dict) -> Any:
        headers = {"Content-Type": "application/json"}
        post = urllib.request.Request(self.where, json.dumps(request).encode(), headers)
        if self.api_key:  # and not to another server that this one points to
            post.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        with urllib.request.urlopen(post, timeout=self.timeout) as reply:
            self.reached = True
            return json.load(reply)

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        self.reached = True
        try:
            said = error.read(2000).decode(errors="replace").strip()
        except (OSError, HTTPException):
            said = ""
        problem = f"{self.where} refused: {error} {said}".strip()
        if error.code in REFUSED:
            raise InputError(f"{problem}; {REFUSED[error.code]}") from error
        return problem


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        whole = False
    if not whole or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"--url {url!r} is no address: give one like http://localhost:8000/v1")
    return url


def _printable(key: str) -> str:
    if not key.isascii() or not key.isprintable():  # the key itself is not repeated
        raise InputError("the API key holds a character that no key has: copy it again")
    return key.strip()


def _text_of(reply: Any) -> str | NoAnswer:
    """The text of a reply; some servers send it in parts, or nothing but their reasoning."""
    try:
        choice = reply["choices"][0]
        content = choice["message"]["content"]
    except (LookupError, TypeError):
        return NoAnswer(f"the reply is not a chat completion: {str(reply)[:80]!r}")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str)) if any(parts) else None
    if isinstance(content, str):
        return content
    why = f"the reply holds no text: it ended by {choice.get('finish_reason')!r}"
    thought = choice["message"].get("reasoning_content") or choice["message"].get("reasoning")
    return NoAnswer(why + (" and holds reasoning alone; raise --max_new_tokens" if thought else ""))


class VLLM:
    """vLLM's engine in this process; called with rows, it gives their answers."""

    def __init__(
        self, model: str, clip_format: ClipFormat, dtype: str, max_new_tokens: int, processor=None
    ):
        self.model, self.clip_format, self.dtype = model, clip_format, dtype
        self.max_new_tokens, self.processor = max_new_tokens, processor
        self.engine: Any = None

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
        answers = self.engine.chat([chat_of(row, self.processor) for row in rows], sampling)
        return [answer.outputs[0].text for answer in answers]
