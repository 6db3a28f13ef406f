"""Fixtures that several test files share."""

import importlib
import sys
from pathlib import Path

import pytest
from browser import headless, require_browser
from hypothesis import settings

# A time limit for each example says more about a busy machine than about the code.
settings.register_profile("stvgkit", deadline=None)
settings.load_profile("stvgkit")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="module")
def bench(root):
    """The modules in benchmarks/, by name."""
    sys.path.insert(0, str(root / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(root / "benchmarks"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real benchmark files that are too large or not free to ship; tests skip without them."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data for checks is not at {folder}")
    return folder


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium that reaches nothing but this machine."""
    with headless(require_browser()) as browser:
        yield browser


@pytest.fixture(scope="session")
def troubled(tmp_path_factory):
    """Makes each file of `videos.MAKERS` once."""
    made = {}

    def get(maker):
        if maker not in made:
            made[maker] = maker(tmp_path_factory.mktemp(maker.__name__))
        return made[maker]

    return get
