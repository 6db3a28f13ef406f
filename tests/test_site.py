"""The static site, opened from disk in a real Chromium: nothing is asked of any other host.

A site of one lesson is built here. STVGKIT_SITE=FOLDER looks at every page of a whole one instead.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NEEDED = ("sphinx", "myst_nb", "furo", "latex2mathml", "ziamath", "nbclient")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(root, tmp_path_factory) -> Path:
    if given := os.environ.get("STVGKIT_SITE"):
        return (root / given).resolve()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the site needs {', '.join(missing)}: pip install -e '.[site]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, root / "docs" / "site" / "make_site.py", "--no-api"]
    command += ["--lessons", "03_rewards_by_hand"]
    command += ["--out", folder / "out", "--work", folder / "work"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING: 'myst'" not in done.stderr  # a link that leads nowhere
    return folder / "out"


@pytest.fixture
def visit(chromium):
    """Open a page from disk; at the end it has asked for files only, and complained of nothing."""
    pages = []

    def opened(path: Path, **options):
        page = chromium.new_page(**options)
        pages.append(page)
        page.requests, page.problems = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield opened
    for page in pages:
        asked = [url for url in page.requests if not re.match("(file|data|blob|about):", url)]
        assert (asked, page.problems) == ([], []), page.url
        page.context.close()


def test_a_lesson_shows_its_formulas_plots_and_lab_from_disk(site, visit):
    page = visit(site / "notebooks" / "03_rewards_by_hand.html")
    assert page.locator("math").count() > 20
    assert page.locator("mjx-container, .katex").count() == 0
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    drawn, all_plots = (page.locator(f".{name}") for name in ("js-plotly-plot", "plotly-graph-div"))
    assert drawn.count() == all_plots.count()
    lab = page.frame_locator("iframe[title='Reward lab']")
    before = lab.locator(".total .value").inner_text()
    lab.locator("select").select_option("right time, loose boxes")
    assert lab.locator(".total .value").inner_text() != before
    text = page.locator("article").inner_text()
    assert "Traceback" not in text and "Unsolved" not in text and "google.colab" not in text


def test_the_example_report_is_that_of_a_run(site, visit):
    page = visit(site / "example_report.html")
    report = page.frame_locator("iframe[title='Report of the demo']")
    assert report.locator("h1").inner_text() == "stvgkit demo"
    assert report.locator("td").first.inner_text() == "centre box over the whole clip"
    report.locator(".js-plotly-plot .main-svg").first.wait_for()
    assert report.locator("iframe").count() == 12  # players


def test_first_page_leads_to_lessons_glossary_and_lab(site, visit):
    page = visit(site / "index.html")
    for title, name in [("Glossary", "glossary"), ("The reward lab", "reward_lab")]:
        page.locator(".sidebar-tree").get_by_text(title, exact=True).click()
        page.wait_for_url(f"**/{name}.html")
        page.go_back()
    page.locator("article").get_by_text("03 Rewards by hand").click()
    page.wait_for_url("**/notebooks/03_rewards_by_hand.html")
    page.locator("article a[href*='glossary.html#giou']").first.click()
    page.wait_for_url("**/glossary.html#giou")
    assert page.locator("#giou").count() == 1


def test_every_page_asks_for_files_only_and_fits_a_phone(site, visit):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for path in pages:
        page = visit(path, viewport={"width": 400, "height": 800}, color_scheme="dark")
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
        page.close()


def test_every_link_within_the_site_leads_somewhere(site):
    anchors, broken = {}, []
    for path in site.rglob("*.html"):
        anchors[path] = set(re.findall(r'\sid="([^"]+)"', path.read_text(encoding="utf-8")))
    for path in anchors:
        body = re.sub(r"<(script|iframe).*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
        for href in re.findall(r'<a\s[^>]*href="([^"]+)"', body):
            if re.match("[a-z]+:", href):
                continue
            target, _, anchor = href.partition("#")
            found = (path.parent / target).resolve() if target else path
            if not found.exists() or (anchor and found in anchors and anchor not in anchors[found]):
                broken.append((str(path.relative_to(site)), href))
    assert broken == []
