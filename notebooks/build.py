"""Make the notebooks from `notebooks/py/`: `make notebooks`.

The percent scripts in `py/` are the only source, and they hold the *solutions*. From each come

- `notebooks/NN_name.ipynb`, what Colab opens: the exercises unsolved, each with its solution in a
  closed box below its check;
- with `--solutions FOLDER`, a notebook with the code as written, which nbval runs. Before each
  solution it has a cell that tries the exercise as a student finds it: the check must raise
  `Unsolved` there.

How a script marks an exercise: a code cell with a line `# solution`, below which a student sees
`...` (below a mark that is not indented: `name = ...` for every name set there); the next cell is
its check, which calls `stvgkit.exercises`. Exercises stand at the end, each on its own, so that an
unsolved one stops nobody who runs all cells. Title, badge, links and the install cell are made here from one
table, and the links of terms to the glossary from docs/glossary.md (see glossary.py).
Cell ids follow from the cells' content,
and a file that would not change is not written.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import math
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import glossary  # noqa: E402

ROOT = HERE.parent

REPOSITORY = "stvgkit/stvgkit"  # owner/name on GitHub: badges and the install cell point there
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks"
SITE = "https://stvgkit.github.io/stvgkit"  # what `make site` builds, as the workflow publishes it
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


@dataclass(frozen=True)
class Lesson:
    """A notebook's row: minutes on 2 CPU cores, and on Colab's T4 (None: not measured)."""

    name: str
    title: str
    about: str
    cpu_minutes: str
    t4_minutes: str | None = None
    gpu: bool = False  # ask Colab for a T4


LESSONS = [
    Lesson("00_start_here", "Start here", "Install, one prediction, see it move", "1"),
    Lesson("01_task_and_data", "The task and its data", "Tubes, records, sampling", "1"),
    Lesson("02_prompts_and_answers", "Prompts and answers", "Box chain of thought, spaces", "1"),
    Lesson("03_rewards_by_hand", "Rewards by hand", "The five rewards, the reward lab", "1"),
    Lesson("04_sft", "SFT", "Imitation, and what it cannot teach", "10", gpu=True),
    Lesson("05_grpo_by_hand", "GRPO by hand", "The loss on a toy policy", "1"),
    Lesson(
        "06_grpo_with_trl", "GRPO with TRL", "A run, its curves, and how it fails", "12", gpu=True
    ),
    Lesson("07_evaluation", "Evaluation", "Metrics, protocols, the paper's tables", "1"),
    Lesson("08_playback", "Why a model fails", "Three planted faults, found by looking", "1"),
]


# --- what is made here ---------------------------------------------------------------------------


def reading_minutes(lesson: Lesson) -> int:
    """Minutes to read a lesson, to the next 5: 200 words of text or 12 lines of code a minute."""
    cells = read_script(lesson)
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    lines = sum(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code")
    return 5 * math.ceil((words / 200 + lines / 12) / 5)


def runtime(lesson: Lesson) -> str:
    """What a lesson takes: minutes of reading, and of running on two kinds of machine."""
    t4 = f"{lesson.t4_minutes} min" if lesson.t4_minutes else "not measured"
    reading = reading_minutes(lesson)
    return f"reading {reading} min · running: CPU {lesson.cpu_minutes} min, T4 {t4}"


def header(place: int) -> str:
    """Title, badge, minutes and the neighbours' links."""
    lesson = LESSONS[place]
    links = [f"[{other.title}]({other.name}.ipynb)" for other in LESSONS]
    before = f"← {links[place - 1]} · " if place else ""
    after = f" · {links[place + 1]} →" if place + 1 < len(LESSONS) else ""
    return (
        f"# {lesson.name[:2]} · {lesson.title}\n\n"
        f"[![Open in Colab]({BADGE})]({COLAB}/{lesson.name}.ipynb)\n\n"
        f"{before}**{runtime(lesson)}**{after}"
    )


def footer(place: int) -> str:
    lesson = LESSONS[(place + 1) % len(LESSONS)]
    lead = "Next" if place + 1 < len(LESSONS) else "That was the last one. Back to the first"
    return f"---\n{lead}: [{lesson.name[:2]} · {lesson.title}]({lesson.name}.ipynb)"


def install_cell() -> str:
    """Clones and installs on Colab, before anything is imported; does nothing elsewhere."""
    return f"""\
# On Colab this installs stvgkit (a minute or two); anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    ![ -d /content/stvgkit ] || git clone -q --depth 1 https://github.com/{REPOSITORY} /content/stvgkit
    %pip install -q -e "/content/stvgkit[all]"
    sys.path.insert(0, "/content/stvgkit")
    %cd -q /content/stvgkit/notebooks
    import stvgkit, trl
    print("stvgkit", stvgkit.__version__, "· trl", trl.__version__)"""


def readme_table() -> str:
    """The notebooks' table, which stands in the README between two comments."""
    lines = ["| notebook | what it is about | minutes | |", "| --- | --- | --- | --- |"]
    for lesson in LESSONS:
        link = f"[{lesson.name[:2]} {lesson.title}](notebooks/{lesson.name}.ipynb)"
        page = f"[read it with its outputs]({SITE}/notebooks/{lesson.name}.html)"
        badge = f"[![Open in Colab]({BADGE})]({COLAB}/{lesson.name}.ipynb)"
        lines.append(f"| {link} | {lesson.about} | {runtime(lesson)} | {page} · {badge} |")
    return "\n".join(lines) + "\n"


# --- exercises -----------------------------------------------------------------------------------

MARK = re.compile(r"^([ \t]*)# solution[ \t]*$", re.MULTILINE)


def is_exercise(cell) -> bool:
    return cell.cell_type == "code" and MARK.search(cell.source) is not None


def stub(source: str) -> str:
    """The exercise as a student finds it: what is below the mark gives way to `...`."""
    mark = MARK.search(source)
    indent, below = mark[1], source[mark.end() :]
    gap = "..."
    if not indent:  # names that the check asks for must exist
        nodes = [node for node in ast.parse(below).body if isinstance(node, ast.Assign)]
        names = [node.targets[0].id for node in nodes if isinstance(node.targets[0], ast.Name)]
        gap = "\n".join(f"{name} = ..." for name in names) or "..."
    return f"{source[: mark.start()]}{indent}# write your code here\n{textwrap.indent(gap, indent)}"


def solution_box(source: str) -> str:
    code = re.sub(r"^[ \t]*# solution[ \t]*\n", "", source, flags=re.MULTILINE)
    return f"<details><summary><b>Solution</b></summary>\n\n```python\n{code}\n```\n\n</details>"


def unsolved_trial(exercise: str, check: str) -> str:
    """A cell that fails unless the check says of the untouched exercise that it is unsolved."""
    return (
        "# The exercise as a student finds it: its check must say so.\n"
        "from stvgkit.exercises import Unsolved\n\n"
        f"for _cell in ({stub(exercise)!r}, {check!r}):\n"
        "    try:\n"
        "        exec(_cell)\n"
        "    except Unsolved as found:\n"
        "        print(found)\n"
        "        break\n"
        "else:\n"
        '    raise AssertionError("the check passes though nothing is solved")'
    )


# --- notebooks -----------------------------------------------------------------------------------


def script(lesson: Lesson) -> Path:
    return HERE / "py" / f"{lesson.name}.py"


def read_script(lesson: Lesson) -> list:
    return jupytext.reads(script(lesson).read_text(encoding="utf-8"), fmt="py:percent").cells


def linked_cells(place: int) -> list:
    """A lesson's cells; each term that no earlier lesson uses is linked where it is used first."""
    unused = set(glossary.terms())
    for lesson in LESSONS[: place + 1]:
        cells = read_script(lesson)
        texts = [cell for cell in cells if cell.cell_type == "markdown"]
        linked = glossary.link_first_uses([cell.source for cell in texts], unused)
    for cell, source in zip(texts, linked, strict=True):
        cell.source = source
    return cells


def build(place: int, solutions: bool = False) -> str:
    """The notebook's JSON text: exercises, or the solutions that CI runs."""
    lesson = LESSONS[place]
    cells = [new_markdown_cell(header(place)), new_code_cell(install_cell())]
    cells[1].metadata["tags"] = ["nbval-skip"]
    waiting = None
    for cell in linked_cells(place):
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if waiting is not None and cell.cell_type != "code":
            raise SystemExit(f"{lesson.name}: the cell below an exercise must be its check")
        if is_exercise(cell):
            waiting = cell.source
            if not solutions:
                cell.source = stub(cell.source)
            cells.append(cell)
            continue
        if waiting is not None and solutions:
            cells.insert(-1, new_code_cell(unsolved_trial(waiting, cell.source)))
        cells.append(cell)
        if waiting is not None and not solutions:
            cells.append(new_markdown_cell(solution_box(waiting)))
        waiting = None
    cells.append(new_markdown_cell(footer(place)))
    notebook = new_notebook(cells=_with_ids(cells), metadata=_metadata(lesson))
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _with_ids(cells: list) -> list:
    """Ids from the content; a number tells apart cells that are equal."""
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return cells


def _metadata(lesson: Lesson) -> dict:
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if lesson.gpu:
        metadata |= {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
    return metadata


def write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print("wrote", path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


TABLE = re.compile(r"(<!-- notebooks -->\n).*?(<!-- /notebooks -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solutions", type=Path, help="write the notebooks that nbval runs here")
    folder = parser.parse_args().solutions
    for place, lesson in enumerate(LESSONS):
        if not script(lesson).exists():
            continue  # a lesson still to be written; a test says so
        path = (folder.resolve() if folder else HERE) / f"{lesson.name}.ipynb"
        write(path, build(place, solutions=folder is not None))
    readme = ROOT / "README.md"
    if folder is None and readme.exists():
        write(readme, TABLE.sub(rf"\g<1>{readme_table()}\2", readme.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
