"""Build the static site: `make site`, or `python docs/site/make_site.py --out site`.

Lessons with their outputs, docs, glossary, API pages, the reward lab and the report of a demo run,
in one folder that can be opened from disk or put on GitHub Pages. Lessons that train for more
than a minute run in smoke mode, and say so, unless --full is given. What has run is kept in
build/site and run again only when it, or the package, has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import build as lessons  # noqa: E402

import stvgkit  # noqa: E402
from stvgkit.errors import InputError, need  # noqa: E402

REPOSITORY = f"https://github.com/{lessons.REPOSITORY}/blob/main"
PAGES = ["README.md", "TROUBLESHOOTING.md", "CONTRIBUTING.md", "data_samples/README.md"]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
BADGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
LESSONS = {lesson.name: lesson for lesson in lessons.LESSONS}
SMOKE_NOTE = """

> **The outputs on this page come from a run in smoke mode**: a few steps on a few clips, which only
> shows that every cell works. The numbers in the text come from a run in full."""
NO_API = ("stvgkit.cli", "stvgkit.__main__")
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}  # beside a plot it needs a wide page
PLOT = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"


def build(out: Path, work: Path, names: list[str], *, full: bool, api: bool) -> None:
    """Write the site of these lessons to `out`; `work` keeps what is made on the way."""
    need(
        "the site", "site", "sphinx", "furo", "myst_nb", "latex2mathml", "ziamath", "trl", "plotly"
    )
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("_static", "_extra", "notebooks", "docs", "api"):
        (source / folder).mkdir(parents=True)
    pages = [*PAGES, *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
    known = {*pages, *(f"notebooks/{name}.ipynb" for name in names)}
    for page in pages:
        target = source / ("index.md" if page == "README.md" else page)
        target.parent.mkdir(exist_ok=True)
        text = mend_links((ROOT / page).read_text(encoding="utf-8"), page, known)
        target.write_text(text, encoding="utf-8")
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, source / "docs")
    for name in names:
        smoke = not full and LESSONS[name].cpu_minutes != "1"
        notebook = run_lesson(name, work / "executed", smoke)
        if smoke:
            notebook.cells[0].source += SMOKE_NOTE
        show_outputs(notebook)
        page = f"notebooks/{name}.ipynb"
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = mend_links(cell.source, page, known)
        nbformat.write(notebook, source / page)
    write_extras(source, work)
    modules = write_api(source / "api") if api else []
    write_contents(source, pages, names, modules)
    shutil.copy(HERE / "conf.py", source)
    shutil.copy(HERE / "site.css", source / "_static")
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(work / "doctrees")]
    subprocess.run([*command, str(source), str(out)], check=True)
    (out / ".nojekyll").touch()  # GitHub Pages would leave folders such as _static out


# --- lessons -------------------------------------------------------------------------------------


def run_lesson(name: str, kept: Path, smoke: bool) -> nbformat.NotebookNode:
    """The notebook of a lesson as a student opens it, with the outputs of a run."""
    text = lessons.build(list(LESSONS).index(name))
    digest = hashlib.sha256(f"{smoke}{text}".encode())
    for path in sorted(Path(stvgkit.__file__).parent.rglob("*")):
        if path.suffix in (".py", ".js", ".css", ".html"):
            digest.update(path.read_bytes())
    path = kept / f"{name}-{digest.hexdigest()[:16]}.ipynb"
    if path.exists():
        return nbformat.read(path, as_version=4)
    print(f"running {name}", flush=True)
    notebook = nbformat.reads(text, as_version=4)
    notebook.cells = [c for c in notebook.cells if "nbval-skip" not in c.metadata.get("tags", [])]
    for cell, check in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code" and "# write your code here" in cell.source:
            check.metadata.tags = [*check.metadata.get("tags", []), "raises-exception"]
    folder = kept / "work"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "STVGKIT_SMOKE": "1" if smoke else "",
        "PYTHONPATH": str(ROOT),
        "TQDM_DISABLE": "1",
    }
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    for old in kept.glob(f"{name}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, path)
    return notebook


def show_outputs(notebook: nbformat.NotebookNode) -> None:
    """Make all outputs need nothing but the site: a plot is data for plotly's script beside it and
    a widget is shown as it stood. Progress bars, what libraries write to stderr, and exercises that
    wait to be solved say nothing."""
    from plotly.io import to_html

    states = notebook.metadata.pop("widgets", {}).get(WIDGETS, {}).get("state", {})
    script = '<script src="../_static/plotly.min.js"></script>\n'
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        shown = []
        for output in cell.outputs:
            data = output.get("data", {})
            if output.get("ename") == "Unsolved" or output.get("name") == "stderr":
                continue
            if PLOT in data:
                figure = dict(data[PLOT])
                figure["layout"].setdefault("legend", LEGEND)
                options = {"include_plotlyjs": False, "include_mathjax": False}
                plot = to_html(figure, full_html=False, **options)
                output.data = {"text/html": script + plot}
                script = ""  # once on each page
            elif WIDGET in data:
                widgets = list(parts(data[WIDGET]["model_id"], states))
                if any(widget["model_name"] == "FloatProgressModel" for widget in widgets):
                    continue
                output.data = {"text/html": snapshot(widgets)}
            shown.append(output)
        cell.outputs = shown


def parts(model: str, states: dict) -> Iterator[dict]:
    """The state of a widget, and of each widget inside it."""
    if model in states:
        yield states[model]
        for child in states[model]["state"].get("children", []):
            yield from parts(child.removeprefix("IPY_MODEL_"), states)


def snapshot(widgets: list[dict]) -> str:
    """What the HTML parts and lists of a widget showed when the lesson had run."""
    shown = []
    for widget in widgets:
        if widget["model_name"] == "HTMLModel":
            shown.append(widget["state"].get("value", ""))
        elif widget["model_name"] == "SelectModel":
            shown.append(f"<pre>{escape(chr(10).join(widget['state']['_options_labels']))}</pre>")
    note = "A widget as it stood after the run. Its controls need a notebook that runs."
    return f'<div class="widget-snapshot"><p>{note}</p>{"".join(shown)}</div>'


# --- pages ---------------------------------------------------------------------------------------


def mend_links(text: str, page: str, known: set[str]) -> str:
    """Links to files that are no pages of the site go to GitHub; pictures from elsewhere go."""

    def mended(match: re.Match) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if target.startswith(lessons.SITE):  # a page of this very site
            here = target.removeprefix(f"{lessons.SITE}/").replace(".html", ".ipynb")
            target = os.path.relpath(here, os.path.dirname(page) or ".")
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(page), target))
        if path in known:
            target = (
                os.path.relpath("index.md", os.path.dirname(page)) if path == PAGES[0] else target
            )
            return f"[{label}]({target}{anchor})"
        return f"[{label}]({REPOSITORY}/{path}{anchor})"

    return LINK.sub(mended, BADGE.sub(r"\1", text))


def write_extras(source: Path, work: Path) -> None:
    """The reward lab, the report of a demo run, plotly's script and the font of formulas."""
    import ziamath
    from plotly.offline import get_plotlyjs

    from stvgkit.cli import main as stvgkit_command

    static = source / "_static"
    (static / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    font = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    shutil.copy(font, static)  # without a font for formulas browsers misplace small letters
    extra = source / "_extra"
    if stvgkit_command(["lab", "--out", str(extra / "lab.html")]):
        raise InputError("the reward lab could not be made")
    page = (
        "# The reward lab\n\nDrag a box, or an end of the answer's time, and see what the five "
        'rewards make of it. <a href="lab.html">Open it alone</a> for more room.\n\n'
        '<iframe class="full lab" src="lab.html" title="Reward lab"></iframe>\n'
    )
    (source / "reward_lab.md").write_text(page, encoding="utf-8")
    (source / "example_report.md").write_text(
        "# An example report\n\n`make demo` ends with a report like this one. The run is shipped "
        "with the code, in [data_samples/demo](data_samples/README.md). The table is "
        "of 256 test clips, and the report plays the first twelve of them. "
        '<a href="report.html">Open it alone</a> for more room.\n\n'
        '<iframe class="full" src="report.html" title="Report of the demo"></iframe>\n',
        encoding="utf-8",
    )
    shutil.copy(shipped_report(work / "demo"), extra / "report.html")


def shipped_report(folder: Path) -> Path:
    """The report of the run in data_samples/demo; its clips are generated once more."""
    from stvgkit.datasets import data_samples, read_prepared
    from stvgkit.datasets.shapes import write_shapes
    from stvgkit.demo import METRICS, ROWS
    from stvgkit.viewing.report import CLIPS, write_report

    shutil.copytree(data_samples() / "demo", folder, dirs_exist_ok=True)
    samples = list(read_prepared(write_shapes(folder / "data", "test", CLIPS)))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return write_report(folder, metrics, samples, titles=ROWS, columns=METRICS)


def write_api(folder: Path) -> list[str]:
    """A page for each module of the package that says something about itself."""
    found = pkgutil.walk_packages(stvgkit.__path__, "stvgkit.")
    names = ["stvgkit", *(module.name for module in found)]
    names = [name for name in names if name not in NO_API and "._" not in name]
    for name in names:
        title = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n"
        (folder / f"{name}.rst").write_text(title, encoding="utf-8")
    return names


def write_contents(source: Path, pages: list[str], names: list[str], modules: list[str]) -> None:
    """The tree of contents, hidden below the first page, which the side bar shows."""
    docs = sorted(page.removesuffix(".md") for page in pages if page != PAGES[0])
    trees = {
        "Lessons": [f"notebooks/{name}" for name in names],
        "Try it": ["reward_lab", "example_report"],
        "Reference": docs,
        "Python": [f"api/{name}" for name in modules],
    }
    text = "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(entries) + "\n```\n"
        for caption, entries in trees.items()
        if entries
    )
    with (source / "index.md").open("a", encoding="utf-8") as index:
        index.write(text)


def main() -> None:
    names = list(LESSONS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder to write")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "site", help="what is kept")
    parser.add_argument("--lessons", nargs="*", choices=names, default=names, help="only these")
    parser.add_argument("--full", action="store_true", help="run the lessons in full, not smoke")
    parser.add_argument("--no-api", action="store_true", help="leave the API pages out")
    args = parser.parse_args()
    out, work = args.out.resolve(), args.work.resolve()
    try:
        build(out, work, args.lessons, full=args.full, api=not args.no_api)
    except InputError as error:
        raise SystemExit(f"{Path(__file__).name}: {error}") from None
    print(f"open {args.out / 'index.html'}")


if __name__ == "__main__":
    main()
