"""Each shipped recipe is planned with its model's published sizes, and fits the GPU it names."""

import pytest
import yaml

from stvgkit.training import recipes
from stvgkit.training.plan import GPUS, RESERVE, plan

families = pytest.importorskip("families")
NAMED = {"t4": "T4", "l4": "L4", "80gb": "H100", "8x80gb": "H100", "paper": "H100", "tiny": "T4"}


def fields(recipe: str) -> dict:
    return yaml.safe_load(recipes.find(recipe).read_text())


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A recipe's model as a folder with its published configuration and its processor."""

    def made(recipe: str) -> str:
        name = fields(recipe)["model_name_or_path"].removeprefix("Qwen/").removesuffix("-Instruct")
        if name not in families.PUBLISHED:
            return "tiny"
        folder = tmp_path_factory.getbasetemp() / name
        if not folder.exists():
            families.save_published(name, folder)
        return str(folder)

    return made


def test_hcstvg_v1_and_v2_differ_in_their_data_alone():
    """So that planning one of them plans both."""
    one, two = fields("paper-hcstvg-v1"), fields("paper-hcstvg-v2")
    assert {key for key in one | two if one.get(key) != two.get(key)} == {
        "annotations",
        "videos",
        "output_dir",
    }


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in recipes.names() if name != "paper-hcstvg-v2"])
def test_a_recipe_fits_the_gpu_that_it_is_named_after(recipe, folder_of):
    gpu = NAMED[recipe.partition("-")[0]]
    needs, gpus, _ = plan([recipe, "--model", folder_of(recipe), "--gpu", gpu])
    assert gpus == {gpu: GPUS[gpu]}
    weights = needs.parameters * (0.5 if fields(recipe).get("load_in_4bit") else 2)
    assert weights / needs.launch.processes / 1e9 < needs.needs(GPUS[gpu]) < GPUS[gpu] - RESERVE
    assert needs.launch.processes == (8 if recipe.startswith(("8x", "paper")) else 1)


@pytest.mark.parametrize("recipe", [name for name in recipes.names() if name.startswith("paper")])
def test_a_step_of_the_papers_run_is_128_prompts_of_8_answers(recipe):
    task, _, args = recipes.parse("grpo", [recipe])
    answers = args.per_device_train_batch_size * args.gradient_accumulation_steps
    assert 8 * answers == 128 * args.num_generations and args.num_generations == 8
    assert task.launch == "zero3-8"
