"""What the tiny VLM reads and writes about pictures: naming, pointing, lists of frames.

A text is a list of pieces; each says whether the model is to learn to write it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stvgkit.tiny.pictures import BOARD, Pictures
from stvgkit.tiny.tokenizer import TIMES

# A text as pieces, each with whether the model is to learn to write it and, for some, the number
# of a thing whose course is to be known at its last token.
Pieces = list[tuple[str, bool] | tuple[str, bool, int]]


def places_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """Lines such as `the red circle in frame 2. b3 [30, 52, 48, 70]`, and the other way round."""
    pieces: Pieces = [("<|im_start|>user\n" + shown(pictures), False)]
    for k, i in _subjects(pictures, b, rng, turns):
        name, there = pictures.name(b, i), pictures.visible[b, k, i]
        place = f"{pictures.cell(b, k, i)} {pictures.box(b, k, i)}"
        if there and rng.random() < 0.3:
            pieces += [(f"{k}. {place} ", False), (name, True)]
        else:
            pieces += [(f"{name} in frame {k}. ", False), (place if there else "none", True)]
        pieces.append(("\n", False))
    return pieces


def dialogue_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """Questions about single frames with their answers, in the chat template's form."""
    pieces: Pieces = []
    for turn, (k, i) in enumerate(_subjects(pictures, b, rng, turns)):
        question, answer = point_question(pictures, b, k, i)
        if pictures.visible[b, k, i] and rng.random() < 0.2:
            question, answer = f"name: {answer}", pictures.name(b, i)
        pieces += [(ask(pictures, question, turn), False)]
        pieces += [(f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


def point_question(pictures: Pictures, b: int, k: int, i: int) -> tuple[str, str]:
    """`point: the red circle in frame 2`, and `2. [30, 52, 48, 70]` or `2. none`."""
    place = pictures.box(b, k, i) if pictures.visible[b, k, i] else "none"
    return f"point: {pictures.name(b, i)} in frame {k}", f"{k}. {place}"


def lists_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """`point: the red circle in frame 2, 3, 5` and `2. [30, 52, 48, 70], 3. none, 5. [...]`."""
    pieces: Pieces = []
    frames = pictures.frames.shape[1]
    for turn, (k, i) in enumerate(_subjects(pictures, b, rng, turns)):
        count = int(rng.integers(1, frames + 1))
        first = min(k, frames - count)
        row = range(first, first + count)  # half of the lists have gaps
        asked = row if rng.random() < 0.5 else np.sort(rng.permutation(frames)[:count])
        places = [point_question(pictures, b, int(k), i)[1] for k in asked]
        question = f"point: {pictures.name(b, i)} in frame {', '.join(str(k) for k in asked)}"
        pieces += [(ask(pictures, question, turn), False, i)]
        pieces += [(f"{', '.join(places)}<|im_end|>", True), ("\n", False)]
    return pieces


def frames_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """`frame: the red circle` and `0, 2, 3`, or `point: the red circle in frame 2 - 4`."""
    pieces: Pieces = []
    frames = pictures.frames.shape[1]
    for turn, (_, i) in enumerate(_subjects(pictures, b, rng, turns)):
        name = pictures.name(b, i)
        if rng.random() < 0.6:
            question = f"frame: {name}"
            answer = ", ".join(str(n) for n in np.flatnonzero(pictures.visible[b, :, i]))
        else:
            first, last = np.sort(rng.integers(0, frames, size=2))
            question = f"point: {name} in frame {first} - {last}"
            places = (point_question(pictures, b, n, i)[1] for n in range(first, last + 1))
            answer = ", ".join(places)
        pieces += [(ask(pictures, question, turn), False, i)]
        pieces += [(f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


def any_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """One of the two above."""
    text = lists_text if rng.random() < 0.4 else frames_text
    return text(pictures, b, rng, turns)


def course_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """`frame: the red circle` and `frame 0, 2, 3`; `find: the red circle` and `frame 0 - 3`."""
    pieces: Pieces = []
    for turn, (_, i) in enumerate(_subjects(pictures, b, rng, turns)):
        seen = np.flatnonzero(pictures.visible[b, :, i])
        if rng.random() < 0.5:
            question, answer = "frame", ", ".join(map(str, seen))
        else:
            question, answer = "find", f"{seen[0]} - {seen[-1]}"
        pieces += [(ask(pictures, f"{question}: {pictures.name(b, i)}", turn), False, i)]
        pieces += [("frame ", True, i), (f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


def most_text(pictures: Pictures, b: int, rng, turns: int) -> Pieces:
    """What comes last, and now and then what came before."""
    text = (lists_text, frames_text, course_text, course_text)[rng.integers(4)]
    return text(pictures, b, rng, turns)


def ask(pictures: Pictures, question: str, turn: int = 0) -> str:
    """A question in the chat template's form; the first one of a clip comes with its frames."""
    frames = "" if turn else shown(pictures)
    return f"<|im_start|>user\n{frames}{question}<|im_end|>\n<|im_start|>assistant\n"


def shown(pictures: Pictures) -> str:
    pad = "<|image_pad|>" * BOARD**2
    times = TIMES[: pictures.frames.shape[1]]
    return "".join(f"{stamp}<|vision_start|>{pad}<|vision_end|>" for stamp in times)


def _subjects(pictures: Pictures, b: int, rng, turns: int) -> Iterator[tuple[int, int]]:
    """Frames and things to ask about: mostly a thing that is there, else one seen elsewhere."""
    seen = pictures.visible[b]
    somewhere = np.flatnonzero(seen.any(axis=0))
    for _ in range(turns if len(somewhere) else 0):
        k = int(rng.integers(len(seen)))
        here, gone = np.flatnonzero(seen[k]), [i for i in somewhere if not seen[k, i]]
        ask_gone = gone and (not len(here) or rng.random() < 0.2)
        yield k, int(rng.choice(gone if ask_gone else here))
