"""Credit in TRL: a GRPO trainer that pays each token for its part of the answer.

TRL's loss takes one advantage per answer, `(B,)`, or one per token, `(B, T)`. "whole" leaves
TRL's own. For the others (see `stvgkit.credit`) the texts and gold tubes of a group are gathered
from all processes, since a group may be spread over them. Each token is paid by where it begins
in the text.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import gather_object

from stvgkit.answers import CoordinateSpace
from stvgkit.credit import Payment, Scoring, check_credit, pay_group
from stvgkit.training.shared_prompt import SharedPromptTrainer
from stvgkit.tubes import Tube


class CreditTrainer(SharedPromptTrainer):
    """GRPO with one of `stvgkit.credit.CREDITS`; the rest is the base class's."""

    def __init__(self, *args, credit: str, scoring: Scoring, **settings) -> None:
        check_credit(credit)
        super().__init__(*args, think=scoring.think, **settings)
        self.credit, self.scoring = credit, scoring

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        output = super()._generate_and_score_completions(inputs)
        if self.credit != "whole":
            output["advantages"] = self._token_advantages(inputs, output)
        return output

    def _token_advantages(self, inputs: list[dict], output: dict) -> torch.Tensor:
        ids, mask = output["completion_ids"], output["completion_mask"].bool()  # (B, T)
        tokens = [self._texts(row[kept]) for row, kept in zip(ids, mask, strict=True)]
        payments = self._pay(inputs, ["".join(texts) for texts in tokens])
        advantages = torch.zeros(ids.shape, device=ids.device)
        for row, (payment, texts) in enumerate(zip(payments, tokens, strict=True)):
            paid = torch.from_numpy(payment.of_tokens(texts)).to(advantages)
            advantages[row, : len(paid)] = paid
        return advantages

    def _texts(self, ids: torch.Tensor) -> list[str]:
        """The text of each token; a character made of several belongs to the last of them."""
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        texts, done = [], 0
        for end in range(1, len(ids) + 1):
            text = tokenizer.decode(ids[:end], skip_special_tokens=True)
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
            texts.append(text[done:])
            done = max(done, len(text))
        return texts

    def _pay(self, inputs: list[dict], texts: list[str]) -> list[Payment]:
        keys = ("target_frames", "target_boxes", "space")
        mine = [
            (*(row[key] for key in keys), text) for row, text in zip(inputs, texts, strict=True)
        ]
        everyone = gather_object(mine)
        size = self.num_generations if self.model.training else self.num_generations_eval
        paid: list[Payment] = []
        for start in range(0, len(everyone), size):
            group = everyone[start : start + size]
            frames, boxes, space, _ = group[0]
            paid += pay_group(
                [text for *_, text in group],
                Tube(frames, boxes),
                CoordinateSpace.parse(space),
                self.credit,
                self.scoring,
                scale=self.scale_rewards != "none",
            )
        first = self.accelerator.process_index * len(mine)
        return paid[first : first + len(mine)]
