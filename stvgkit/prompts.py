"""What the model is asked: a clip with its times, then the question.

A clip is written as `<0.5 seconds>` and the frame, one after the other. This is how Qwen3-VL
writes a video itself (the processor's `replace_video_token`), it tells any other model the time
too, and it fits trainers that take images but no video. The other form is Qwen's own video input,
of which a step of time holds two frames; then the question says that an index counts frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stvgkit.answers import CoordinateSpace

# STVG-o1 prints its answer (Fig. 2) but not its prompt; this one is ours.
INSTRUCTION = """\
The video has {num_frames} sampled frames, numbered from 0 to {last}. {steps}Find when this \
happens and where its subject is: "{query}"
First give the first and the last frame of the event, then a first guess of the subject's box in \
every frame from the first to the last, then the final boxes in the same frames. A box is \
[x1, y1, x2, y2], {unit}. Answer in exactly this form and write nothing else:
<time> 5 - 6 </time>
<think_bbox> 5. [{example}], 6. [{example}] </think_bbox>
<pred_bbox> 5. [{example}], 6. [{example}] </pred_bbox>"""

# A model that sees steps of two frames is told what a number counts.
STEPS = """\
Each time step of the video shows two of them: step k holds frames 2k and 2k + 1, the last step \
of an odd number one frame alone. Every number in the answer counts frames, not steps. """

# The same for an answer without think boxes, which the paper's ablation asks for (Table 5).
_THINK_WORDS = {
    "a first guess of the subject's box in every frame from the first to the last, then the final "
    "boxes in the same frames.": "the subject's box in every frame from the first to the last.",
    "\n<think_bbox> 5. [{example}], 6. [{example}] </think_bbox>": "",
}

# What the tiny model understands; it has too few words for an instruction.
SHORT = "find: {query}"

# What the tiny base model was pre-trained on: "the red circle in frame 2".
POINT = "point: {query}"

# For models that were not trained here: the JSON that Qwen's models write by themselves.
QWEN = """\
Find when this happens in the video and where its subject is: "{query}"
For every frame in which it happens, give the subject's box [x1, y1, x2, y2], {unit}, and the \
frame's time in seconds. Leave out all other frames. Answer in JSON:
[{{"time": 1.0, "bbox_2d": [{example}], "label": "subject"}}, ...]"""

TEMPLATES = {"full": INSTRUCTION, "qwen": QWEN, "short": SHORT, "point": POINT}


def instruction(
    query: str,
    num_frames: int,
    space: CoordinateSpace,
    template: str = "full",
    *,
    think: bool = True,
    frames_as: str = "images",
) -> str:
    """The question's text for `num_frames` frames, with coordinates in `space`.

    With `think=False` no think boxes are asked for. With `frames_as="video"` it says that an index
    counts frames, of which a step of time holds two.

    >>> instruction("the red circle", 8, CoordinateSpace.relative(100), template="short")
    'find: the red circle'
    """
    relative = space.name.startswith("0-")
    unit = (
        f"relative to the frame, as integers from 0 to {space.width:.0f}"
        if relative
        else f"in pixels of a frame that is {space.width:.0f} wide and {space.height:.0f} high"
    )
    example = ", ".join(str(n) for n in space.encode([0.3, 0.2, 0.5, 0.8])[0])
    words = TEMPLATES[template]
    if not think:
        for asked, instead in _THINK_WORDS.items():
            words = words.replace(asked, instead)
    return words.format(
        query=query,
        num_frames=num_frames,
        last=num_frames - 1,
        unit=unit,
        example=example,
        steps=STEPS if frames_as == "video" else "",
    )


def build_messages(
    query: str,
    times: Sequence[float],
    space: CoordinateSpace,
    template: str = "full",
    *,
    think: bool = True,
    frames_as: str = "images",
) -> list[dict[str, Any]]:
    """One user turn: a time and an image placeholder for every frame, then the instruction.

    `times` are the frames' seconds from the start of what is shown. Fill the placeholders in
    order with the frames (TRL does so itself from a column `images`). With `frames_as="video"`
    one placeholder stands for all of them, and the model's processor writes the times.

    >>> turn = build_messages("the red circle", [0.0, 0.5], CoordinateSpace.relative(100), "short")
    >>> [part.get("text", part["type"]) for part in turn[0]["content"]]
    ['<0.0 seconds>', 'image', '<0.5 seconds>', 'image', 'find: the red circle']
    """
    content: list[dict[str, Any]] = []
    for seconds in times if frames_as == "images" else ():
        content.append({"type": "text", "text": f"<{seconds:.1f} seconds>"})
        content.append({"type": "image"})
    if frames_as == "video":
        content.append({"type": "video"})
    text = instruction(query, len(times), space, template, think=think, frames_as=frames_as)
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
