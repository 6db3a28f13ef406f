"""Attention of answers that share a prompt is that of one mask over everything, and costs less."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from peft import LoraConfig, get_peft_model  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from stvgkit.training.rollout import merged  # noqa: E402
from stvgkit.training.shared_attention import (  # noqa: E402
    CachedLayout,
    PackedGroup,
    PackedLayout,
    attention,
)

HEADS, KEY_HEADS, SIZE = 4, 2, 8
LAYER = SimpleNamespace(layer_idx=0, num_key_value_groups=HEADS // KEY_HEADS, is_causal=True)
SCALE = SIZE**-0.5


def random_qkv(tokens, rows=1):
    torch.manual_seed(0)
    query = torch.randn(rows, HEADS, tokens, SIZE, requires_grad=True)
    key, value = (torch.randn(rows, KEY_HEADS, tokens, SIZE, requires_grad=True) for _ in "kv")
    return query, key, value


def masked(query, key, value, sees):
    """The oracle: every head's own keys, and a mask that says who sees whom."""
    key, value = (x.repeat_interleave(HEADS // KEY_HEADS, 1) for x in (key, value))
    told = scaled_dot_product_attention(query, key, value, attn_mask=sees, scale=SCALE)
    return told.transpose(1, 2)


def test_packed_groups_attend_as_one_mask_over_the_whole_sequence_says():
    groups = [PackedGroup(5, (3, 1, 4)), PackedGroup(2, (2,)), PackedGroup(1, (1, 6))]
    owners, number = [], 0
    for place, group in enumerate(groups):
        owners += [(place, 0)] * group.prompt
        for length in group.answers:
            number += 1
            owners += [(place, number)] * length
    sees = torch.tensor(
        [
            [column <= row and one[0] == other[0] and other[1] in (0, one[1])
             for column, other in enumerate(owners)]
            for row, one in enumerate(owners)
        ]
    )  # fmt: skip
    layout = PackedLayout(groups, torch.device("cpu"))
    inputs = random_qkv(len(owners))
    wanted = masked(*inputs, sees)
    told, _ = attention(LAYER, *inputs, None, layout=layout, scaling=SCALE)
    assert torch.allclose(told, wanted, atol=1e-6)
    weights = torch.randn_like(wanted)
    for mine, theirs in zip(
        torch.autograd.grad(told, inputs, weights),
        torch.autograd.grad(wanted, inputs, weights),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("kept", [None, [0, 2, 5], [4]])
def test_growing_answers_see_their_prompt_and_themselves(kept):
    real = torch.tensor([[False, True, True, True], [True] * 4, [False, False, True, True]])
    groups = torch.tensor([0, 0, 1, 1, 1, 2])
    torch.manual_seed(1)
    prompt_keys, prompt_values = torch.randn(2, 3, KEY_HEADS, 4, SIZE)
    layout = CachedLayout([prompt_keys], [prompt_values], real, groups)
    rows = torch.arange(6) if kept is None else torch.tensor(kept)
    if kept is not None:
        layout.keep(rows)
    query, key, value = (x.detach() for x in random_qkv(3, len(rows)))
    told, _ = attention(LAYER, query[:, :, -1:], key, value, None, layout=layout, scaling=SCALE)
    owner = groups[rows]
    everything = (
        torch.cat([prompts[owner], own], 2)
        for prompts, own in ((prompt_keys, key), (prompt_values, value))
    )
    sees = torch.cat([real[owner], torch.ones(len(rows), 3, dtype=torch.bool)], 1)[:, None, None]
    assert torch.allclose(told, masked(query[:, :, -1:], *everything, sees), atol=1e-6)


def test_an_adapter_is_in_the_weights_meanwhile_and_gone_bit_by_bit_afterwards():
    torch.manual_seed(2)
    plain = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Linear(6, 6))
    settings = LoraConfig(r=2, target_modules=["0", "1"], init_lora_weights=False)
    model = get_peft_model(plain, settings)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    inputs = torch.randn(3, 6)
    wanted = model(inputs)
    with merged(model):
        assert torch.allclose(model(inputs), wanted, atol=1e-6)
        assert not hasattr(plain[0], "lora_A")  # so nothing of it is computed apart
        assert not torch.equal(plain[0].weight, before["base_model.model.0.base_layer.weight"])
    assert hasattr(plain[0], "lora_A")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])
    narrow = model.to(torch.bfloat16)
    with merged(narrow):
        assert not plain[0].merged
