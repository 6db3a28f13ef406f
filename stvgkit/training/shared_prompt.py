"""GRPO that does the work of a prompt once for its group: a trainer on TRL's own seams.

GRPO asks one question several times, and the question is the long part: a clip of 40 frames has
four thousand tokens, an answer several hundred. TRL reads it anew for every answer, when it
samples and again for the loss. `SharedPromptTrainer` shares, for each group of answers,

    the frames' preprocessing and the prompt's tokens     `_tokenize_prompts`
    frames, prompt and cache when answers are sampled     `_generate_single_turn`, see `rollout`
    frames and prompt in log-probabilities and gradients  `_get_per_token_logps_and_entropies`,
                                                          see `packing` and `shared_attention`

and keeps the answers of a group in one micro-batch (`_prepare_inputs`). Everything else is TRL's:
rewards, advantages, the loss, logs. With the same answers, loss and gradients are TRL's own.

`share_prompt=False` leaves TRL's own way; so does a model or a setting that cannot share, and a
warning says which. `stop_broken` ends an answer as soon as it cannot become a valid one: all of
its rewards are 0 whatever follows, so what follows would only be noise in the gradient.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import torch
from transformers import GenerationConfig
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from stvgkit.grammar import can_continue
from stvgkit.training.inputs import filled, model_inputs
from stvgkit.training.models import without_adapter
from stvgkit.training.packing import Prompt, pack, runs
from stvgkit.training.rollout import can_sample, merged, sample
from stvgkit.training.shared_attention import NAME as SHARED
from stvgkit.training.shared_attention import take_layouts


def why_not_shared(model, sampling: GenerationConfig | None) -> str | None:
    """What keeps prompts from being shared; None where nothing does.

    `sampling` is how answers are sampled, None where another program does that.
    """
    text = model.config.get_text_config()
    attention = text._attn_implementation
    if attention not in ("sdpa", SHARED) or not model._supports_attention_backend:
        return f"attention {attention!r} of this model cannot be shared: use sdpa"
    if any(layer != "full_attention" for layer in getattr(text, "layer_types", None) or ()):
        return "some layers of this model do not see the whole sequence"
    if sampling is not None and not can_sample(sampling):
        return "it samples with settings beyond temperature, top-k, top-p and min-p"
    return None


class SharedPromptTrainer(GRPOTrainer):
    """TRL's `GRPOTrainer`, with the work of a prompt done once for its group."""

    _buffered_inputs: list[dict] | None  # of TRL

    def __init__(
        self,
        *args,
        share_prompt: bool = True,
        stop_broken: bool = True,
        think: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        # TRL would mask a stopped answer as one that was cut off, and with it the blame.
        self.stop_broken = stop_broken and not self.mask_truncated_completions
        self.think = think
        reason = self._why_not() if share_prompt else None
        if reason:
            warnings.warn(f"prompts are not shared in their groups: {reason}", stacklevel=2)
        self.share_prompt = share_prompt and not reason
        if self.share_prompt:
            for scored in filter(None, (self.model, self.ref_model)):
                take_layouts(self.accelerator.unwrap_model(scored))
        self._prompts: list[Prompt] = []  # of each answer at hand
        self._images: list | None = None
        self._examples: list[dict] = []  # of each answer at hand, with the frames

    def _why_not(self) -> str | None:
        """What keeps this run from sharing prompts; None where nothing does."""
        if self.tools or self.environment_factories is not None or self.rollout_func is not None:
            return "tools, environments and rollout functions have ways of their own"
        if self.aux_loss_enabled:
            return "the balance of experts is counted over whole batches"
        model = self.accelerator.unwrap_model(self.model)
        return why_not_shared(model, None if self.use_vllm else self.generation_config)

    # --- the prompts ---------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        if not self.share_prompt:
            return super()._generate_and_score_completions(inputs)
        self._examples = inputs
        # TRL is told of no images: it would make pixels of them anew for every answer. They stay
        # in `Prompt`, once for each group.
        told = [{key: row[key] for key in row if key != "images"} for row in inputs]
        return super()._generate_and_score_completions(told) | {"prompts": self._prompts}

    def _tokenize_prompts(self, prompts: list):
        if not self.share_prompt:
            return super()._tokenize_prompts(prompts)
        self._prompts, self._images = [], []
        names = [example.get("id", place) for place, example in enumerate(self._examples)]
        for place, example in enumerate(self._examples):
            if place and names[place] == names[place - 1]:
                self._prompts.append(self._prompts[-1])
                self._images.append(self._images[-1])
            else:
                self._prompts.append(self._prompt(filled(example)))
                self._images.append(example.get("images"))
        return [prompt.ids.tolist() for prompt in self._prompts], None, {}

    def _prompt(self, prompt: list[dict]) -> Prompt:
        inputs = model_inputs(self.processing_class, [prompt], **self.chat_template_kwargs)
        inputs = {key: value.to(self.accelerator.device) for key, value in inputs.items()}
        model = without_adapter(self.accelerator.unwrap_model(self.model))
        return Prompt(inputs, model.model)

    # --- sampling ------------------------------------------------------------------------------

    def _generate_single_turn(
        self, prompt_ids, images, multimodal_fields, num_generations, **kwargs
    ):
        if not self.share_prompt:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, **kwargs
            )
        if self.use_vllm or self.use_transformers_continuous_batching:  # they share by themselves
            images = self._images if any(self._images or ()) else None
            return super()._generate_single_turn(prompt_ids, images, {}, num_generations, **kwargs)
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
            nullcontext() if self._is_split() else merged(model),
        ):
            hopeless = self._hopeless if self.stop_broken else None
            answers = sample(model, self._prompts, self.generation_config, hopeless)
        self._count_stopped(answers)
        return answers, None

    def _is_split(self) -> bool:
        """Whether each process holds a part of the weights."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def sample_texts(self, inputs: list[dict]) -> list[str]:
        """An answer to each row of `train_dataset`, sampled as in training, and left out of logs.

        The rows of a group follow one another. What training draws afterwards stays the same.
        """
        device = self.accelerator.device
        self._examples = inputs
        self.model.train()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            prompts, images, fields = self._tokenize_prompts([filled(row) for row in inputs])
            answers, _ = self._generate_single_turn(prompts, images, fields, self.num_generations)
        texts: list[str] = self.processing_class.batch_decode(answers, skip_special_tokens=True)
        return texts

    def _count_stopped(self, answers: list[list[int]]) -> None:
        """Log the share of answers that were stopped; they are not cut off at the length limit."""
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        stopped = [
            self.stop_broken and ids[-1] not in ends and self._hopeless(ids) for ids in answers
        ]
        share = torch.tensor(stopped, device=self.accelerator.device).float()
        self._stopped = self.accelerator.gather(share).mean().item()

    def _generate(self, prompts: list):
        self._stopped = 0.0
        output = super()._generate(prompts)
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["completions/stopped_ratio"].append(self._stopped)
        metrics["completions/clipped_ratio"][-1] -= self._stopped  # TRL takes them for cut off
        return output

    def _hopeless(self, ids: list[int]) -> bool:
        text = self.processing_class.decode(ids, skip_special_tokens=True)
        return not can_continue(text, think=self.think)

    # --- the loss ------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch):
        """As TRL's, but a group's answers stay together in one micro-batch."""
        if not self.share_prompt or not self.model.training:
            return super()._prepare_inputs(generation_batch)
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = self._split(batch)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _split(self, batch: dict) -> list[dict]:
        """Micro-batches of whole groups, in random order."""
        groups = runs(batch["prompts"])
        shuffled = [groups[place] for place in torch.randperm(len(groups)).tolist()]
        order = [row for group in shuffled for row in group]
        rows = {
            key: value[order] if torch.is_tensor(value) and value.ndim else value
            for key, value in batch.items()
            if key != "prompts"
        }
        batches = split_tensor_dict(rows, self.args.steps_per_generation)
        size = len(order) // len(batches)
        for number, part in enumerate(batches):
            mine = order[number * size : (number + 1) * size]
            part["prompts"] = [batch["prompts"][row] for row in mine]
        return batches

    def _compute_loss(self, model, inputs):
        if self.share_prompt:
            self._prompts = inputs["prompts"]
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs
    ):
        if not self.share_prompt:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs
            )
        completions = input_ids[:, -logits_to_keep:]  # (B, T)
        mask = attention_mask[:, -logits_to_keep:].bool()
        most = batch_size or len(completions)
        chunks, start = [], 0
        while start < len(completions):
            part = slice(start, start + most)
            packed = pack(self._prompts[part], completions[part], mask[part])
            with self.accelerator.autocast():
                outputs = model(
                    **packed.model_inputs(),
                    labels=packed.labels,
                    fused_lm_head=True,
                )
            wanted = [outputs.log_probs, outputs.entropy if kwargs.get("compute_entropy") else None]
            chunks.append([x if x is None else packed.unpack(x, mask[part]) for x in wanted])
            start += most
        logps, entropies = zip(*chunks, strict=True)
        return torch.cat(logps), None if entropies[0] is None else torch.cat(entropies), None
