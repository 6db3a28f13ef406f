"""The rewards for EasyR1: `worker.reward.reward_function=PATH/easyr1.py:compute_score`.

`python -c "import stvgkit.plugins.easyr1 as m; print(m.__file__)"` prints the path. EasyR1 hands
over a batch; of a row's columns only the one that `data.answer_key` names reaches a reward, and
`stvgkit prepare --for easyr1` packs all of the truth into it.
"""

from __future__ import annotations

from dataclasses import asdict

from stvgkit.errors import InputError
from stvgkit.plugins import score_row

REWARD_NAME = "stvg"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: list[dict],
    *,
    spatial: str = "both",
    lambda_k: float = 0.5,
    think: bool = True,
) -> list[dict[str, float]]:
    """`overall`, the weighted sum, and the five rewards by name, for each answer.

    The keywords come from `worker.reward.reward_function_kwargs`, as in `score_answer`.

    >>> compute_score([{"response": "It is the dog.", "response_length": 5}])
    Traceback (most recent call last):
    stvgkit.errors.InputError: answer 0 of the batch has no 'ground_truth': ...
    """
    scores = []
    for number, row in enumerate(reward_inputs):
        name = f"answer {number} of the batch"
        for key in ("response", "ground_truth"):
            if key not in row:
                raise InputError(
                    f"{name} has no {key!r}: EasyR1 must call this as a batch reward, on a file "
                    "that stvgkit prepare --for easyr1 wrote"
                )
        options = {"spatial": spatial, "lambda_k": lambda_k, "think": think}
        parts = asdict(score_row(name, row["response"], row["ground_truth"], **options))
        scores.append({"overall": parts.pop("total"), **parts})
    return scores
