"""The rewards for verl: `reward.custom_reward_function.path=pkg://stvgkit.plugins.verl`.

verl calls `compute_score` once for each answer. `ground_truth` is the row's
`reward_model["ground_truth"]`, which `stvgkit prepare --for verl` packs. `reward_kwargs` of the
configuration reach it as keywords: `spatial`, `lambda_k`, `think`, as in `score_answer`.
"""

from __future__ import annotations

from dataclasses import asdict

from stvgkit.plugins import score_row


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict | None = None,
    *,
    spatial: str = "both",
    lambda_k: float = 0.5,
    think: bool = True,
    **_framework,
) -> dict[str, float]:
    """`score`, the weighted sum, and the five rewards by name, for `gdpo_reward_keys`.

    R_k is there as `think`, before its weight. verl's further keywords are not used.

    >>> from stvgkit import CoordinateSpace, Tube
    >>> from stvgkit.plugins import pack_ground_truth
    >>> truth = pack_ground_truth(Tube([0], [[0, 0, 1, 1]]), CoordinateSpace.relative(1000))
    >>> compute_score("hcstvg", "It is the dog.", truth)["score"]
    0.0
    """
    row = f"{data_source} {(extra_info or {}).get('id', '')}".strip()
    scored = score_row(
        row, solution_str, ground_truth, spatial=spatial, lambda_k=lambda_k, think=think
    )
    parts = asdict(scored)
    return {"score": parts.pop("total"), **parts}
