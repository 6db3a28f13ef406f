"""What each folder may import: the rule that keeps the core installable beside any other stack.

Imports are read from the source, those inside functions and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A folder of stvgkit ("core" for its own modules): what it is installed with, and which folders it
# may import. What stands in brackets may only be imported inside a function, where a docstring
# around it names the folder (`stvgkit.video`), so that a reader knows what the function asks for.
EVERYTHING = {"core", "datasets", "plugins", "video", "viewing", "training", "tiny", "demo"}
TABLE = {
    "core": ("", {"core", "datasets"}, {"video"}),
    "datasets": ("", {"core", "datasets"}, {"video"}),
    "plugins": ("", {"core", "datasets", "plugins"}, {"video"}),
    "tasks": ("", {"core", "datasets", "plugins", "tasks"}, {"video"}),
    "video": ("video", {"core", "video"}, set()),
    "viewing": ("view", {"core", "datasets", "video", "viewing"}, set()),
    "tiny": ("train", {"core", "datasets", "video", "tiny"}, set()),
    "training": ("train", {"core", "datasets", "video", "tiny", "training"}, set()),
    "demo": ("all", EVERYTHING, set()),
    "cli": ("", {"core", "datasets", "cli"}, EVERYTHING),
}
NUMPY_ONLY = [folder for folder, (extra, _, _) in TABLE.items() if not extra]
# Imported where they are installed, and never declared by us.
UNDECLARED = {
    ("stvgkit.training.serving", "vllm"),  # --backend vllm says how to get it
    ("stvgkit.plugins.openrlhf", "torch"),  # called by a framework that brings its own
    ("stvgkit.plugins.swift", "swift"),
    ("stvgkit.tasks.utils", "datasets"),  # lmms-eval brings it
}
# Declared and never imported by stvgkit itself, with who does it.
INDIRECT = {
    "torchvision": "Qwen's processors",
    "jinja2": "chat templates",
    "tensorboard": "the default of `report_to`",
    "ipykernel": "nbval",
    "nbval": "make test-notebooks",
    "anywidget": "plotly's figures in JupyterLab",
    "jupyterlab": "started by tests/test_jupyter.py",
    "voila": "started by tests/test_jupyter.py",
    "ruff": "make lint",
    "mypy": "make lint",
    "furo": "the site's theme",
    "myst-nb": "reads the site's lessons",
}


@dataclass(frozen=True)
class Import:
    """`module` imports `target` (a module of stvgkit, or a package) at `line`."""

    module: str
    target: str
    line: int
    docstrings: str  # of the module and of what is around the import
    lazy: bool  # inside a function
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.target}"


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "stvgkit").rglob("*.py"))
}


def imports(name: str, path: Path) -> Iterator[Import]:
    """Every import of a file, but those of the standard library and of `__future__`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, docstrings: str, lazy: bool, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings += ast.get_docstring(node) or ""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lazy = True
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only = True
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out, not relative"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = {full if full in MODULES else node.module for full in inside}
        else:
            targets = []
        for target in targets:
            package = target.split(".")[0]
            if package == "stvgkit":
                yield Import(name, target, node.lineno, docstrings, lazy, typing_only)
            elif package not in sys.stdlib_module_names:
                yield Import(name, package, node.lineno, docstrings, lazy, typing_only)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, docstrings, lazy, typing_only)

    yield from walk(tree, "", False, False)


IMPORTS = [found for name, path in MODULES.items() for found in imports(name, path)]
INSIDE = [found for found in IMPORTS if found.target.startswith("stvgkit")]
OUTSIDE = [
    found
    for found in IMPORTS
    if not found.target.startswith("stvgkit") and (found.module, found.target) not in UNDECLARED
]


def folder(module: str) -> str:
    """The key of `TABLE` that a module belongs to."""
    part = module.removeprefix("stvgkit").strip(".").split(".")[0]
    if part == "__main__":
        return "cli"
    return part if part in TABLE else "core"


def declared() -> dict[str, set[str]]:
    """The distributions that each extra brings, "" being no extra, extras of extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}

    def brought(extra: str) -> set[str]:
        names = set(brought("")) if extra else set()
        for entry in extras[extra]:
            name, inner = re.match(r"([A-Za-z0-9_-]+)(?:\[([a-z,]+)\])?", entry).groups()
            if name == "stvgkit":
                names.update(*(brought(one) for one in inner.split(",")))
            else:
                names.add(name)
        return names

    return {extra: brought(extra) for extra in extras}


DECLARED = declared()
DISTRIBUTIONS = packages_distributions()


def distributions(package: str) -> set[str]:
    """What to install for `import package`, as pyproject.toml would write it."""
    names = DISTRIBUTIONS.get(package, [package])
    return {name.lower().replace("_", "-") for name in names}


def test_every_folder_stands_in_the_table():
    folders = {module.split(".")[1] for module in MODULES if module.count(".") > 1}
    assert folders <= set(TABLE)


def test_no_circle_of_imports():
    graph = {module: set() for module in MODULES}
    for found in INSIDE:
        graph[found.module].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_folders_import_one_way():
    wrong = []
    for found in INSIDE:
        _, always, told = TABLE[folder(found.module)]
        target = folder(found.target)
        # `from stvgkit import __version__` comes out of the core.
        if target in always:
            continue
        lazy = found.lazy or found.typing_only
        named = folder(found.module) == "cli" or f"stvgkit.{target}" in found.docstrings
        if not (target in told and lazy and named):
            wrong.append(str(found))
    assert not wrong, "not allowed, or no docstring names the folder:\n" + "\n".join(wrong)


def test_every_package_is_brought_by_the_extra_of_its_folder():
    wrong = []
    for found in OUTSIDE:
        extra = TABLE[folder(found.module)][0]
        if not extra and (found.lazy or found.typing_only):
            # A light folder may load more where a docstring names what brings it, as a folder
            # (`stvgkit.video`) or as an extra (`stvgkit[train]`).
            named = re.findall(r"stvgkit\.(\w+)", found.docstrings)
            reach = [TABLE[name][0] for name in named if name in TABLE]
            reach += re.findall(r"stvgkit\[(\w+)\]", found.docstrings)
        else:
            reach = [extra]
        if not any(distributions(found.target) & DECLARED[one] for one in ["", *reach]):
            wrong.append(f"{found} (extra {reach})")
    assert not wrong, "imported, not declared:\n" + "\n".join(wrong)


def needs(module: str) -> list[list[str]]:
    """What is given to each `need(part, extra, *packages)` of a module."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        [argument.value for argument in call.args]
        for call in calls
        if getattr(call.func, "id", "") == "need"
    ]


def test_light_folders_name_the_missing_extra_before_they_import_a_package():
    for found in OUTSIDE:
        light = folder(found.module) in NUMPY_ONLY and not found.typing_only
        if light and not distributions(found.target) & DECLARED[""]:
            told = any(found.target in packages for _, _, *packages in needs(found.module))
            assert told, f"{found}: no need(...) before it"


def test_folders_say_at_their_door_what_they_need():
    for name in ("video", "viewing", "training", "tiny"):
        extra = TABLE[name][0]
        part, said, *packages = needs(f"stvgkit.{name}")[0]
        assert (part, said) == (f"stvgkit.{name}", extra)
        assert all(distributions(package) & DECLARED[extra] for package in packages)


def test_what_is_declared_is_used():
    files = [*ROOT.glob("tests/*.py"), *ROOT.glob("benchmarks/*.py")]
    files += [*ROOT.glob("notebooks/*.py"), *ROOT.glob("notebooks/py/*.py")]
    files += ROOT.glob("docs/site/*.py")
    here = {path.stem for path in files} | {package for _, package in UNDECLARED} - {"torch"}
    used = {found.target for path in files for found in imports(path.stem, path)} - here
    used = {package for package in used if not package.startswith("stvgkit")}
    missing = {package for package in used if not distributions(package) & DECLARED["dev"]}
    assert not missing, "the tests, benchmarks and notebooks import what [dev] does not bring"
    used |= {found.target for found in OUTSIDE}
    names = set().union(*(distributions(package) for package in used))
    assert DECLARED["dev"] - names == set(INDIRECT)


HEAVY = sorted(
    {found.target for found in OUTSIDE if not distributions(found.target) & DECLARED[""]}
    | {package for _, package in UNDECLARED}
)


def without(packages: list[str], code: str) -> subprocess.CompletedProcess:
    """Run Python code where these packages cannot be imported."""
    block = f"import sys\nsys.modules.update(dict.fromkeys({packages!r}))\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True)


def test_light_modules_load_with_numpy_alone():
    names = [module for module in MODULES if folder(module) in NUMPY_ONLY]
    names.remove("stvgkit.__main__")
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = without(HEAVY, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["video", "viewing.players", "training.recipes", "tiny"])
def test_a_missing_extra_is_one_line_in_python(name):
    extra = TABLE[name.split(".")[0]][0]
    done = without(HEAVY, f"import stvgkit.{name}")
    last = done.stderr.splitlines()[-1]
    assert "MissingExtra" in last and last.endswith(f"pip install 'stvgkit[{extra}]'"), last


COMMANDS = f"""
import contextlib, io
from stvgkit.cli import main
clip = {str(ROOT / "data_samples/opencv/box.mp4")!r}
split = {str(ROOT / "data_samples/opencv/annotations.json")!r}
folder = {str(ROOT / "data_samples/opencv")!r}
read = ["--benchmark", "hcstvg", "--annotations", split]
for argv in (
    ["demo", "--out", "out"],
    ["prepare", *read, "--videos", folder, "--out", "out"],
    ["sft", "--help"], ["grpo", "--help"], ["predict", "--help"], ["plan", "tiny-sft"],
    ["info", clip],
    ["play", "--video", clip],
    ["play", *read],
    ["lab", *read],
):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = main(argv)
    print(code, argv[0], told.getvalue().strip())
"""


def test_every_command_names_its_missing_extra_and_exits_with_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = without(HEAVY, f"sys.path.insert(0, {str(ROOT)!r})" + COMMANDS)
    lines = done.stdout.splitlines()
    assert len(lines) == 10, done.stderr
    for line in lines:
        assert re.fullmatch(
            r"2 \w+ stvgkit: \S.* needs \w+: pip install 'stvgkit\[[a-z]+\]'", line
        ), line


LIGHT = f"""
from stvgkit.cli import main
split = {str(ROOT / "data_samples/opencv/annotations.json")!r}
read = ["--benchmark", "hcstvg", "--annotations", split]
assert main(["info", split]) == 0
assert main(["prepare", *read, "--out", "split"]) == 0
assert main(["info", "split"]) == 0
answer = '{{"st_frame": 1, "ed_frame": 1, "bbox": {{"1": [0, 0, 9, 9]}}}}'
open("made.json", "w").write('{{"box.mp4": ' + answer + "}}")
assert main(["score", *read, "--predictions", "made.json", "--json", "scores.json"]) == 0
"""


def test_score_info_and_prepare_need_numpy_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = without(HEAVY, f"sys.path.insert(0, {str(ROOT)!r})" + LIGHT)
    assert done.returncode == 0, done.stderr
    assert "no video was looked at" in done.stdout
    assert (tmp_path / "split" / "samples.jsonl").is_file()
    assert (tmp_path / "scores.json").is_file()
