"""Finding a Chromium for the tests that need one, and listening to what its pages do."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing but this machine can be reached, and the browser itself asks for nothing.
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@functools.cache
def find_browser() -> str | None:
    """Path of a Chromium: an installed one, else Debian's package, else Playwright's own."""
    return _installed() or _from_debian() or _from_playwright()


def _installed() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _from_debian() -> str | None:
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 600}
    subprocess.run(["apt-get", "update"], check=False, **quiet)
    command = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    subprocess.run(
        command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, **quiet
    )
    return _installed()


def _from_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    subprocess.run(command, check=False, capture_output=True, timeout=600)
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


@contextlib.contextmanager
def headless(path: str):
    """The browser at `path`, which reaches nothing but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def require_browser() -> str:
    """The browser's path; without one, skip, or fail where STVGKIT_REQUIRE_BROWSER is set."""
    path = find_browser()
    if path is None:
        line = "no Chromium: install Debian's chromium, or run `playwright install chromium`"
        if os.environ.get("STVGKIT_REQUIRE_BROWSER"):
            pytest.fail(line)
        pytest.skip(line)
    return path


def listen(page) -> None:
    """Keep what a page asks for in `page.requests`, and what it complains of in `page.problems`."""
    page.problems, page.requests = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text))
    page.on("request", lambda request: page.requests.append(request.url))
