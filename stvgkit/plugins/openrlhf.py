"""The rewards for OpenRLHF: `--reward.remote_url PATH/openrlhf.py --data.label_key ground_truth`.

OpenRLHF hands over the prompt and the answer as one text, with the tokens that end a turn.
It knows no settings for a reward. For the ablations give a file of two lines instead:
`from stvgkit.plugins import openrlhf`, `reward_func = partial(openrlhf.reward_func, lambda_k=1.0)`.
torch is imported when a reward is asked for, since OpenRLHF wants tensors back.
"""

from __future__ import annotations

import re
from dataclasses import asdict, fields

from stvgkit.errors import InputError
from stvgkit.plugins import score_row
from stvgkit.rewards import RewardBreakdown

BEST = 5.0  # the total of a perfect answer
_TAIL = 200  # characters
_REPEATED = re.compile(r"(<\|[a-z_]+\|>)\1+")
_TURN_END = re.compile(r"\s*(?:<\|[a-z_]+\|>|</s>|<eos>|<end_of_[a-z]+>)\s*$")


def answer_of(query: str, prompt: str, row: str = "the row") -> str:
    """The answer in a text of prompt and answer, without the token that ends the turn.

    In the query an image stands as many tokens, in the prompt as one, so repeats are folded. A
    prompt that was cut at its start, or whose images are written otherwise, is known by its end.

    >>> answer_of("<|image_pad|><|image_pad|>When? A: <time><|im_end|>", "<|image_pad|>When? A: ")
    '<time>'
    """
    query, prompt = (_REPEATED.sub(r"\1", text) for text in (query, prompt))
    if query.startswith(prompt):
        answer = query[len(prompt) :]
    else:
        _, found, answer = query.partition(prompt[-_TAIL:])
        if not found:
            raise InputError(f"{row}: the query does not hold the end of its prompt")
    end = _TURN_END.search(answer, max(len(answer) - _TAIL, 0))
    return answer[: end.start()] if end else answer


def reward_func(
    queries: list[str],
    prompts: list[str],
    labels: list[str],
    *,
    spatial: str = "both",
    lambda_k: float = 0.5,
    think: bool = True,
    **_framework,
) -> dict:
    """`rewards`, the weighted sums; `scores`, their share of the best; the five in `extra_logs`.

    All are float tensors of shape `(n,)`. `scores`, in [0, 1], is for dynamic filtering: groups
    whose answers all break the format, or are all perfect, teach nothing.
    """
    import torch

    options = {"spatial": spatial, "lambda_k": lambda_k, "think": think}
    rows = []
    for number, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True)):
        name = f"answer {number} of the batch"
        if label == "":
            raise InputError(f"{name} has no label: add --data.label_key ground_truth")
        rows.append(asdict(score_row(name, answer_of(query, prompt, name), label, **options)))
    names = [field.name for field in fields(RewardBreakdown)]
    parts = {name: torch.tensor([row[name] for row in rows]) for name in names}
    total = parts.pop("total")
    return {"rewards": total, "scores": (total / BEST).clamp(0.0, 1.0), "extra_logs": parts}
