"""Self-contained HTML documents: one file that makes no request and runs its own script only.

What comes from outside (queries, file names, completions) travels as JSON and is shown as text. A
content security policy names style and script by their hashes, so nothing else can run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any


def document(body: str, title: str, style: str, script: str) -> str:
    """A whole page from the HTML inside its body, one style sheet and one script."""
    page = Template(asset("page.html")).substitute(
        title=html.escape(title),
        style=style,
        script=script,
        style_hash=_sha256(style),
        script_hash=_sha256(script),
        body=body,
    )
    # Half of a surrogate pair, which JSON files may hold, has no UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def iframe(page: str, title: str, height: int) -> str:
    """A document in an iframe of its own, which cannot touch the notebook or page around it."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" title="{title}" '
        f'style="width: 100%; height: {height}px; border: 0">'
        # Seen where a front end takes the frame away, as JupyterLab does in such notebooks.
        "Trust this notebook, or run this cell, to see this page.</iframe>"
    )


@cache
def asset(name: str) -> str:
    """The text of a file beside this one."""
    return files("stvgkit.viewing").joinpath(name).read_text(encoding="utf-8")


def bundle(*names: str) -> str:
    """Scripts in one scope of their own: each uses what those before it declare."""
    return '(() => {\n"use strict";\n' + "\n".join(map(asset, names)) + "})();\n"


def as_json(data: dict[str, Any]) -> str:
    """JSON that no HTML parser can mistake for markup, in ASCII."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
