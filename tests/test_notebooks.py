"""The notebooks as files: in step with their scripts, clean, and true to the libraries they use.

That they run is nbval's part (`make test-notebooks`): one test per cell, exercises tried unsolved
and solved.
"""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest
import yaml

from stvgkit import exercises

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import build  # noqa: E402

PLACES = range(len(build.LESSONS))
NAMES = [lesson.name for lesson in build.LESSONS]
each_notebook = pytest.mark.parametrize("place", PLACES, ids=NAMES)


def shipped(place: int):
    return nbformat.read(ROOT / "notebooks" / f"{NAMES[place]}.ipynb", as_version=4)


def code_cells(place: int) -> list[str]:
    """Code as the solutions have it, without IPython's own lines."""
    cells = nbformat.reads(build.build(place, solutions=True), as_version=4).cells
    magic = re.compile(r"^(\s*)[!%].*$", re.MULTILINE)
    return [magic.sub(r"\1pass", cell.source) for cell in cells if cell.cell_type == "code"]


def test_there_are_nine_lessons_in_their_order():
    assert [name[:2] for name in NAMES] == [f"{number:02d}" for number in range(9)]


def test_every_script_is_a_lesson_and_every_lesson_has_a_script():
    assert sorted(path.stem for path in (ROOT / "notebooks" / "py").glob("*.py")) == NAMES
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == NAMES


@each_notebook
def test_notebook_is_what_its_script_makes(place):
    text = (ROOT / "notebooks" / f"{NAMES[place]}.ipynb").read_text(encoding="utf-8")
    assert text == build.build(place), "run `make notebooks`"


@each_notebook
def test_notebook_holds_no_outputs_and_is_small(place):
    notebook = shipped(place)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "widgets" not in notebook.metadata
    assert not any("data:image" in cell.source for cell in notebook.cells)
    assert (ROOT / "notebooks" / f"{NAMES[place]}.ipynb").stat().st_size < 100_000


@each_notebook
def test_cells_are_short_and_have_ids_of_their_own(place):
    notebook = shipped(place)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in build.read_script(build.LESSONS[place]):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert cell.cell_type != "code" or len(lines) <= 15, cell.source


@each_notebook
def test_lesson_has_parameters_exercises_and_a_way_to_the_next(place):
    cells = build.read_script(build.LESSONS[place])
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert 2 <= sum(build.is_exercise(cell) for cell in cells) <= 4
    assert re.search(r"\*\*(You will|In this notebook you)", cells[0].source), "no goals"
    last = shipped(place).cells[-1].source
    assert f"{NAMES[(place + 1) % len(NAMES)]}.ipynb" in last


@each_notebook
def test_text_and_code_take_turns_and_no_text_is_a_wall(place):
    cells, code_in_a_row = build.read_script(build.LESSONS[place]), 0
    for cell in cells:
        code_in_a_row = code_in_a_row + 1 if cell.cell_type == "code" else 0
        assert code_in_a_row <= 4, cell.source
        assert cell.cell_type == "code" or len(cell.source) < 1000, cell.source


@each_notebook
def test_colab_lends_a_gpu_to_the_lessons_that_train(place):
    call = re.compile(r"^(?:\w+ = )?(?:sft|grpo)\($", re.M)
    trains = any(call.search(code) for code in code_cells(place))
    expected = {"accelerator": "GPU", "colab": {"gpuType": "T4"}} if trains else {}
    found = shipped(place).metadata
    assert {key: found[key] for key in ("accelerator", "colab") if key in found} == expected


@each_notebook
def test_ci_tries_every_exercise_unsolved_and_solved(place):
    built = nbformat.reads(build.build(place, solutions=True), as_version=4).cells
    asked = [cell.source for cell in build.read_script(build.LESSONS[place])]
    for number, cell in enumerate(built):
        if build.is_exercise(cell) and cell.source in asked:
            check = asked[asked.index(cell.source) + 1]
            assert built[number - 1].source == build.unsolved_trial(cell.source, check)
            assert built[number + 1].source == check


def test_trial_of_an_unsolved_exercise_fails_where_the_check_is_content():
    exercise = "# solution\nanswer = 42"
    asks = "from stvgkit.exercises import check_value\ncheck_value(answer, 42)"
    exec(build.unsolved_trial(exercise, asks), {})
    with pytest.raises(AssertionError, match="though nothing is solved"):
        exec(build.unsolved_trial(exercise, "pass"), {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "family"), [("04_sft", "qwen2_5_vl"), ("06_grpo_with_trl", "qwen3_vl")]
)
def test_lessons_that_train_run_with_both_families_of_qwen(name, family, tmp_path):
    """`MODEL` names a checkpoint of the family, random but whole: LoRA, processor, spaces."""
    families = pytest.importorskip("families")
    checkpoint = families.save_family(family, tmp_path / family)
    code = "\n\n".join(code_cells(NAMES.index(name)))
    code, changed = re.subn(r'^MODEL = "tiny"', f"MODEL = {str(checkpoint)!r}", code, flags=re.M)
    assert changed == 1
    (tmp_path / "lesson.py").write_text(code)
    environment = os.environ | {"STVGKIT_SMOKE": "1", "PLOTLY_RENDERER": "json"}
    done = subprocess.run(
        [sys.executable, "lesson.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@each_notebook
def test_exercises_do_not_show_their_solution(place):
    for cell in build.read_script(build.LESSONS[place]):
        if build.is_exercise(cell):
            asked = build.stub(cell.source)
            assert "..." in asked and "# solution" not in asked
            assert asked in [other.source for other in shipped(place).cells]


@each_notebook
def test_links_lead_somewhere(place):
    for cell in shipped(place).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#\s]+)", cell.source):
                if target.startswith(build.COLAB):
                    target = target.removeprefix(build.COLAB + "/")
                elif "://" in target:
                    continue
                assert (ROOT / "notebooks" / target).exists(), target


@each_notebook
def test_names_imported_from_the_package_exist(place):
    for source in code_cells(place):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "stvgkit":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def _keywords(name: str) -> set[str] | None:
    """What a call of this name may be given; None for names that are not looked after here."""
    import peft
    import transformers
    import trl

    from stvgkit.training import trainers

    for module in (trl, peft, transformers):
        if name in ("SFTConfig", "GRPOConfig", "LoraConfig", "BitsAndBytesConfig"):
            found = getattr(module, name, None)
            if found is not None:
                return set(inspect.signature(found).parameters)
    if name in ("sft", "grpo"):
        config = {"sft": trl.SFTConfig, "grpo": trl.GRPOConfig}[name]
        parameters = inspect.signature(getattr(trainers, name)).parameters
        return set(parameters) | {field.name for field in fields(config)}
    return None


@each_notebook
def test_keywords_of_training_configs_exist_in_the_installed_libraries(place):
    for source in code_cells(place):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                known = _keywords(node.func.id)
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert known is None or given <= known, (node.func.id, given - known)


def test_install_cell_brings_every_extra_of_the_package():
    for place in PLACES:
        source = shipped(place).cells[1].source
        assert '%pip install -q -e "/content/stvgkit[all]"' in source


def test_install_cell_does_nothing_away_from_colab():
    source = re.sub(r"^(\s*)[!%].*$", r"\1raise SystemExit", build.install_cell(), flags=re.M)
    exec(source, {})


def test_environment_file_has_the_bounds_of_the_package():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["video"], *extras["view"], *extras["train"]]
    wanted = [entry for entry in wanted if not entry.startswith("stvgkit[")]
    assert pip == [*wanted, "-e .[dev]"]


def test_readme_shows_the_table_of_notebooks():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert build.readme_table() in readme, "run `make notebooks`"
    for link in re.findall(r"(?:\(|/main/)(notebooks/[^)]+)\)", readme):
        assert (ROOT / link).exists(), link


def test_building_again_changes_nothing(tmp_path):
    command = [sys.executable, str(ROOT / "notebooks" / "build.py"), "--solutions", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert first.count("wrote") == len(NAMES)
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


class TestChecks:
    def test_untouched_exercise_is_unsolved(self):
        def gap(x): ...

        for check in (
            lambda: exercises.check_calls(gap, [((1,), 2)]),
            lambda: exercises.check_calls(..., [((1,), 2)]),
            lambda: exercises.check_value(..., 2),
            lambda: exercises.check_claims(..., {"it is long": lambda text: len(text) > 3}),
            lambda: exercises.check_claims(gap, {"it doubles": lambda f: f(1) == 2}),
        ):
            with pytest.raises(exercises.Unsolved):
                check()

    def test_wrong_answer_is_told_in_one_sentence_with_the_hint(self):
        with pytest.raises(exercises.Wrong) as found:
            exercises.check_calls(lambda a: a, [((1,), 1), ((2,), 4)], hint="Square it.")
        assert str(found.value) == "Not yet: <lambda>(2) gives 2, but should give 4. Square it."
        assert found.value._render_traceback_() == [str(found.value)]

    def test_error_in_the_attempt_is_named_without_a_traceback(self):
        with pytest.raises(exercises.Wrong, match="raises ZeroDivisionError: division by zero"):
            exercises.check_calls(lambda a: 1 / a, [((0,), 1)])

    def test_value_that_may_be_none_counts_once_another_is_given(self, capsys):
        exercises.check_calls(lambda x: x or None, [((0,), None), ((1,), 1)])
        assert capsys.readouterr().out.startswith("Right: 2 of 2")

    def test_wrong_value_is_not_given_away(self):
        with pytest.raises(exercises.Wrong) as found:
            exercises.check_value(3, 17)
        assert "17" not in str(found.value)

    def test_first_claim_that_fails_is_named(self):
        claims = {"it is text": lambda x: isinstance(x, str), "it is short": lambda x: len(x) < 3}
        with pytest.raises(exercises.Wrong, match='"it is short"'):
            exercises.check_claims("long", claims)
