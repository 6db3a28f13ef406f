"""Build the static site: `make site`, or `python docs/site/make_site.py --out site`.

Lessons with their outputs, docs, glossary, API pages, the reward lab and the report of a short demo
run, in one folder that can be opened from disk or put on GitHub Pages. Lessons run in smoke mode
unless --full is given; what has run is kept in build/site and run again only when it, or the
package, has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import build as lessons  # noqa: E402

import stvgkit  # noqa: E402
from stvgkit.errors import InputError  # noqa: E402

REPOSITORY = f"https://github.com/{lessons.REPOSITORY}/blob/main"
PAGES = ["README.md", "TROUBLESHOOTING.md", "CONTRIBUTING.md", "data_samples/README.md"]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
BADGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
NO_API = ("stvgkit.cli", "stvgkit.__main__")
PLOT = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"


def build(out: Path, work: Path, names: list[str], *, full: bool, api: bool, demo: bool) -> None:
    """Write the site of these lessons to `out`; `work` keeps what is made on the way."""
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
        notebook = run_lesson(name, work / "executed", full)
        show_outputs(notebook)
        page = f"notebooks/{name}.ipynb"
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = mend_links(cell.source, page, known)
        nbformat.write(notebook, source / page)
    write_extras(source, work, demo)
    modules = write_api(source / "api") if api else []
    write_contents(source, pages, names, modules)
    shutil.copy(HERE / "conf.py", source)
    shutil.copy(HERE / "site.css", source / "_static")
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(work / "doctrees")]
    subprocess.run([*command, str(source), str(out)], check=True)
    (out / ".nojekyll").touch()  # GitHub Pages would leave folders such as _static out


# --- lessons -------------------------------------------------------------------------------------


def run_lesson(name: str, kept: Path, full: bool) -> nbformat.NotebookNode:
    """The notebook of a lesson as a student opens it, with the outputs of a run."""
    place = [lesson.name for lesson in lessons.LESSONS].index(name)
    text = lessons.build(place)
    digest = hashlib.sha256(f"{full}{text}".encode())
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
        "STVGKIT_SMOKE": "" if full else "1",
        "PYTHONPATH": str(ROOT),
        "TQDM_DISABLE": "1",
    }
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    for old in kept.glob(f"{name}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, path)
    return notebook


def show_outputs(notebook: nbformat.NotebookNode) -> None:
    """Make all outputs need nothing but the site: a plot is data for plotly's script beside it, a
    widget is shown as it stood, and an exercise that waits to be solved says nothing."""
    from plotly.io import to_html

    states = notebook.metadata.pop("widgets", {}).get(WIDGETS, {}).get("state", {})
    script = '<script src="../_static/plotly.min.js"></script>\n'
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("ename") != "Unsolved"]
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOT in data:
                options = {"include_plotlyjs": False, "include_mathjax": False}
                plot = to_html(dict(data[PLOT]), full_html=False, **options)
                output.data = {"text/html": script + plot}
                script = ""  # once on each page
            elif WIDGET in data:
                output.data = {"text/html": snapshot(data[WIDGET]["model_id"], states)}


def snapshot(model: str, states: dict) -> str:
    """What the HTML parts of a widget showed when the lesson had run."""

    def parts(name: str) -> list[str]:
        state = states.get(name, {})
        inside = state.get("state", {})
        if state.get("model_name") == "HTMLModel":
            return [inside.get("value", "")]
        children = [child.removeprefix("IPY_MODEL_") for child in inside.get("children", [])]
        return [part for child in children for part in parts(child)]

    note = "A widget as it stood after the run. Its controls need a notebook that runs."
    return f'<div class="widget-snapshot"><p>{note}</p>{"".join(parts(model))}</div>'


# --- pages ---------------------------------------------------------------------------------------


def mend_links(text: str, page: str, known: set[str]) -> str:
    """Links to files that are no pages of the site go to GitHub; pictures from elsewhere go."""

    def mended(match: re.Match) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
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


def write_extras(source: Path, work: Path, demo: bool) -> None:
    """The reward lab, the report of a short demo run, and plotly's script."""
    from plotly.offline import get_plotlyjs

    from stvgkit.cli import main as stvgkit_command

    (source / "_static" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    extra = source / "_extra"
    if stvgkit_command(["lab", "--out", str(extra / "lab.html")]):
        raise InputError("the reward lab could not be made")
    page = (
        "# The reward lab\n\nDrag a box, or an end of the answer's time, and see what the five "
        'rewards make of it. <a href="lab.html">Open it alone</a> for more room.\n\n'
        '<iframe class="full" src="lab.html" title="Reward lab" style="height: 1150px"></iframe>\n'
    )
    (source / "reward_lab.md").write_text(page, encoding="utf-8")
    if demo:
        report = work / "demo" / "report.html"
        if not report.exists():
            print("running the short demo", flush=True)
            if stvgkit_command(["demo", "--smoke", "--out", str(report.parent)]):
                raise InputError("the short demo run failed")
        shutil.copy(report, extra / "report.html")
        (source / "report.md").write_text(
            "# An example report\n\n`make demo` ends with a report like this one. It comes from a "
            "run of a minute (`stvgkit demo --smoke`), so its numbers say nothing about the "
            'method. <a href="report.html">Open it alone</a>.\n\n'
            '<iframe class="full" src="report.html" title="Report of the demo" '
            'style="height: 1000px"></iframe>\n',
            encoding="utf-8",
        )


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
    extras = [name for name in ("reward_lab", "report") if (source / f"{name}.md").exists()]
    trees = {
        "Lessons": [f"notebooks/{name}" for name in names],
        "Try it": extras,
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
    names = [lesson.name for lesson in lessons.LESSONS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder to write")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "site", help="what is kept")
    parser.add_argument("--lessons", nargs="*", choices=names, default=names, help="only these")
    parser.add_argument("--full", action="store_true", help="run the lessons in full, not smoke")
    parser.add_argument("--no-api", action="store_true", help="leave the API pages out")
    parser.add_argument("--no-demo", action="store_true", help="leave the demo's report out")
    args = parser.parse_args()
    build(
        args.out.resolve(),
        args.work.resolve(),
        args.lessons,
        full=args.full,
        api=not args.no_api,
        demo=not args.no_demo,
    )
    print(f"open {args.out / 'index.html'}")


if __name__ == "__main__":
    main()
