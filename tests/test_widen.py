"""What is trained with fp16 is kept in 32 bits, or loss scaling cannot take a step."""

import pytest
import torch

from stvgkit.training.models import load
from stvgkit.training.trainers import lora, widen


@pytest.fixture()
def narrow():
    """The tiny model in 16 bits with an adapter in 16 bits, as TRL leaves one on a 4-bit model."""
    from peft import get_peft_model

    def made(dtype=torch.bfloat16):
        torch.manual_seed(0)
        grounder = load("tiny", dtype=str(dtype).removeprefix("torch."))
        adapter = lora(grounder, r=4)
        model = get_peft_model(grounder.model, adapter, autocast_adapter_dtype=False).to(dtype)
        return model.train()

    return made


def a_scaled_step(model) -> torch.amp.GradScaler:
    """Forward and backward with loss scaling, as the Trainer does it, and one step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    ids = torch.arange(12)[None]
    with torch.autocast("cpu", torch.float16):
        loss = model(input_ids=ids, labels=ids).loss
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    return scaler


def test_only_what_is_trained_becomes_wide(narrow):
    model = narrow()
    before = {name: (weight, weight.clone()) for name, weight in model.named_parameters()}
    widen(model)
    for name, weight in model.named_parameters():
        same, value = before[name]
        assert weight is same and torch.equal(weight, value.to(weight.dtype))
        wide = torch.float32 if "lora_" in name else torch.bfloat16
        assert weight.dtype == wide, name
    kinds = {weight.dtype for weight in model.parameters()}
    assert kinds == {torch.float32, torch.bfloat16}


def test_loss_scaling_refuses_16_bit_weights_and_takes_wide_ones(narrow):
    with pytest.raises(ValueError, match="unscale FP16"):
        a_scaled_step(narrow(torch.float16))
    model = narrow(torch.float16)
    widen(model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    a_scaled_step(model)
    changed = {n for n, weight in model.named_parameters() if not torch.equal(weight, before[n])}
    # The first step of an adapter moves B alone, since B starts at nought.
    assert changed and all("lora_B" in name for name in changed)
