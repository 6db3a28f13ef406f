"""What stvgkit takes from inside TRL, each private name: a new TRL that changes one is named.

TRL promises nothing about these. Where a test fails after an upgrade, read what the name does now,
change the module that uses it, and then this table.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

trl = pytest.importorskip("trl")

from trl import GRPOTrainer  # noqa: E402

TRAINING = Path(__file__).resolve().parents[1] / "stvgkit" / "training"
TRAINERS = ("shared_prompt", "crediting", "watch")  # the modules with subclasses of GRPOTrainer

# Methods of GRPOTrainer that a subclass of ours calls or replaces, with the parameters they have.
METHODS = {
    "_tokenize_prompts": "prompts",
    "_generate_single_turn": "prompt_ids images multimodal_fields num_generations has_tool_images",
    "_generate_and_score_completions": "inputs",
    "_generate": "prompts",
    "_calculate_rewards": "inputs prompts completions completion_ids_list",
    "_prepare_inputs": "generation_batch",
    "_compute_loss": "model inputs",
    "_get_per_token_logps_and_entropies": (
        "model input_ids attention_mask logits_to_keep batch_size compute_entropy "
        "compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask "
        "spatial_shapes num_tiles image_sizes token_type_ids mm_token_type_ids image_position_ids"
    ),
}
# What a GRPOTrainer keeps about its run under a private name, with what it is for.
ATTRIBUTES = {
    "_step": "micro-batches so far",
    "_buffered_inputs": "micro-batches of the answers at hand",
    "_metrics": "what is logged at the next step, by mode and name",
    "_dist": "gathers weights that are split over processes",
    "_tokenizer": "the processor's tokenizer",
}
# Functions that TRL does not export at its top, with the parameters that we give.
FUNCTIONS = {
    "trl.models.utils.unwrap_model_for_generation": (
        "model accelerator gather_deepspeed3_params generation_kwargs gradient_checkpointing_kwargs"
    ),
    "trl.trainer.utils.split_tensor_dict": "tensor_dict num_chunks",
    "trl.trainer.utils.add_fused_lm_head": "model outputs",
}


def say(name: str) -> str:
    return f"TRL {trl.__version__} changed {name}, which stvgkit/training uses: see this file's top"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_still_takes_what_it_took(name):
    method = getattr(GRPOTrainer, name, None)
    assert method is not None, f"{say(name)}; it is gone"
    _, *found = inspect.signature(method).parameters
    assert found == METHODS[name].split(), say(name)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_trainer_still_keeps_its_private_state(name):
    assert keeps(name), f"{say(name)} ({ATTRIBUTES[name]})"


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_function_still_takes_what_it_took(path):
    module, _, name = path.rpartition(".")
    function = getattr(importlib.import_module(module), name, None)
    assert function is not None, f"{say(path)}; it is gone"
    found = set(inspect.signature(function).parameters)
    assert set(FUNCTIONS[path].split()) <= found, say(path)


def test_the_fused_head_still_gives_log_probabilities_of_all_tokens_but_the_first():
    """`packing` takes `log_probs` and `entropy` of shape (rows, tokens - 1) from a forward."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=16, **sizes, **heads)).eval()
    ids = torch.arange(10).view(2, 5)
    wanted = model(input_ids=ids).logits.log_softmax(-1)  # (2, 5, 16)
    entropy = -(wanted.exp() * wanted).sum(-1)[:, :-1]
    wanted = wanted[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    found = model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert torch.allclose(found.log_probs, wanted, atol=1e-5), say("the fused head's log_probs")
    assert torch.allclose(found.entropy, entropy, atol=1e-5), say("the fused head's entropy")


def test_no_private_name_is_used_that_does_not_stand_here():
    ours = set().union(*map(defined, TRAINERS))
    used = set().union(*map(used_of_self, TRAINERS)) - ours
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    replaced = {name for name in ours if hasattr(GRPOTrainer, name)}
    listed = METHODS.keys() | ATTRIBUTES.keys()
    assert private | {name for name in replaced if not name.startswith("__")} == listed
    gone = sorted(name for name in used if not keeps(name))
    assert not gone, say(", ".join(gone))


def test_no_inner_function_is_imported_that_does_not_stand_here():
    for path in (TRAINING / f"{name}.py" for name in TRAINERS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trl."):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                assert names <= FUNCTIONS.keys(), f"{path.name}, line {node.lineno}"


def keeps(name: str) -> bool:
    """Whether GRPOTrainer, or a class it comes from, has a name or sets it on itself."""
    if hasattr(GRPOTrainer, name):
        return True
    sources = (inspect.getsource(kind) for kind in GRPOTrainer.__mro__ if kind is not object)
    return any(re.search(rf"\bself\.{name}\b[^=\n]*= ", source) for source in sources)


def parsed(module: str) -> ast.Module:
    return ast.parse((TRAINING / f"{module}.py").read_text(encoding="utf-8"))


def defined(module: str) -> set[str]:
    """Methods and attributes that the classes of a module define themselves."""
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and getattr(node.value, "id", "") == "self":
            found.add(node.attr)
    return found - ATTRIBUTES.keys()


def used_of_self(module: str) -> set[str]:
    """Names that a module reads or calls on `self` or `super()`."""
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "func", node.value)
            if getattr(owner, "id", "") in ("self", "super"):
                found.add(node.attr)
    return found
