"""Each shipped recipe is planned with its model's published sizes, and fits the GPU it names."""

import pytest
import yaml

from stvgkit.errors import InputError
from stvgkit.rows import FRAMES_AS
from stvgkit.training import recipes
from stvgkit.training.longest import batch_of, describe, longest_row, visual_tokens
from stvgkit.training.plan import GPUS, RESERVE, plan

pytest.importorskip("families")


def fields(recipe: str) -> dict:
    return yaml.safe_load(recipes.find(recipe).read_text())


@pytest.fixture(scope="module")
def table(bench):
    """What makes docs/recipes.md."""
    return bench("recipes_table")


@pytest.fixture(scope="module")
def folder_of(table, tmp_path_factory):
    """A recipe's model as a folder with its published configuration and its processor."""
    return lambda recipe: table.model_of(recipe, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def printed(root):
    """The cells of a recipe's row in docs/recipes.md."""
    rows = [line.strip("| ").split(" | ") for line in (root / "docs/recipes.md").open()]
    return lambda recipe, form: next(r for r in rows if r[:2] == [f"`{recipe}`", form])


def test_hcstvg_v1_and_v2_differ_in_their_data_alone():
    """So that planning one of them plans both."""
    one, two = fields("paper-hcstvg-v1"), fields("paper-hcstvg-v2")
    assert {key for key in one | two if one.get(key) != two.get(key)} == {
        "annotations",
        "videos",
        "output_dir",
    }


PLANNED = [name for name in recipes.names() if name != "paper-hcstvg-v2"]
BOTH = [(name, "images") for name in PLANNED] + [("t4-grpo", "video"), ("l4-sft", "video")]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "form"), BOTH)
def test_a_recipe_fits_the_gpu_that_it_is_named_after(recipe, form, table, folder_of, printed):
    gpu = table.gpu_of(recipe)
    argv = [recipe, "--model", folder_of(recipe), "--gpu", gpu, "--frames_as", form]
    needs, gpus, _ = plan(argv)
    assert gpus == {gpu: GPUS[gpu]}
    weights = needs.parameters * (0.5 if fields(recipe).get("load_in_4bit") else 2)
    assert weights / needs.launch.processes / 1e9 < needs.needs(GPUS[gpu]) < GPUS[gpu] - RESERVE
    assert needs.launch.processes == (8 if recipe.startswith(("8x", "paper")) else 1)
    assert needs.shared == (needs.method == "grpo")
    # The page says so, but for what other versions of the libraries change.
    row = printed(recipe, form)
    assert float(row[4].split()[0]) == pytest.approx(needs.needs(GPUS[gpu]), rel=0.05, abs=0.06)
    work = sum(needs.flops.values()) / 1e12
    assert float(row[6].replace(",", "")) == pytest.approx(work, rel=0.06)


@pytest.mark.parametrize("form", FRAMES_AS)
@pytest.mark.parametrize("recipe", PLANNED)
def test_tokens_of_a_recipe_are_those_of_the_real_processor(recipe, form, folder_of, printed):
    """By hand, by the processor, and on the page."""
    argv = [recipe, "--model", folder_of(recipe), "--frames_as", form]
    task, model, args = recipes.parse(recipes.method_of(recipe), argv)
    config, processor, clip_format = describe(model, task)
    row = longest_row(clip_format, (1280, 720), None)
    found = visual_tokens(config, batch_of(processor, row))
    frames, (width, height) = len(row["times"]), row["size"]
    steps = frames if form == "images" else (frames + 1) // 2
    assert found == steps * width * height // clip_format.factor**2
    cells = printed(recipe, form)
    assert cells[2] == f"{frames} of {width}x{height}"
    assert cells[3].startswith(f"{found:,} + ")


def test_video_is_not_planned_where_it_cannot_be_trained():
    argv = ["tiny-grpo", "--model", "tiny", "--frames_as", "video", "--share_prompt", "false"]
    with pytest.raises(InputError, match="frames_as video needs share_prompt"):
        plan(argv)


@pytest.mark.parametrize("recipe", [name for name in recipes.names() if name.startswith("paper")])
def test_a_step_of_the_papers_run_is_128_prompts_of_8_answers(recipe):
    task, _, args = recipes.parse("grpo", [recipe])
    answers = args.per_device_train_batch_size * args.gradient_accumulation_steps
    assert 8 * answers == 128 * args.num_generations and args.num_generations == 8
    assert task.launch == "zero3-8"
