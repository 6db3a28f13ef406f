"""Sphinx settings of the static site; `make_site.py` gathers the pages and starts Sphinx with them.

Nothing on a page may ask another host for anything. So formulas become MathML here, which browsers
draw themselves, and nothing of ipywidgets is loaded.
"""

from __future__ import annotations

import re
from itertools import cycle

import latex2mathml.converter
from docutils.nodes import SkipNode
from sphinx.application import Sphinx

import stvgkit

project = "stvgkit"
version = release = stvgkit.__version__
author = copyright = "the stvgkit authors"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
html_theme = "furo"
html_title = "stvgkit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # make_site.py runs the lessons
nb_ipywidgets_js = {}  # scripts from other hosts

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
suppress_warnings = ["myst.header", "ref.python"]  # a name that a package re-exports has two pages


BAR = re.compile(r'<mo(?: stretchy="false")?>(&#x0007C;|&#x02016;)</mo>')


def pair_bars(mathml: str) -> str:
    """Bars around a term, as in |A|, open and close in turn and are of one height."""
    forms = {bar: cycle(("prefix", "postfix")) for bar in BAR.findall(mathml)}
    return BAR.sub(
        lambda m: f'<mo stretchy="false" fence="true" form="{next(forms[m[1]])}">{m[1]}</mo>',
        mathml,
    )


def visit_math(translator, node) -> None:
    """A formula of the text or one that stands alone."""
    alone = node.tagname == "math_block"
    display = "block" if alone else "inline"
    formula = pair_bars(latex2mathml.converter.convert(node.astext(), display=display))
    if alone:
        formula = f'<div class="formula" tabindex="0">{formula}</div>\n'
    translator.body.append(formula)
    raise SkipNode


def mend_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Indented lines of a docstring stand as `help()` shows them, and bars are bars."""
    for i in range(len(lines) - 1, 0, -1):
        starts = lines[i].startswith("    ") and not lines[i - 1].strip()
        before = next((line for line in reversed(lines[:i]) if line.strip()), "")
        if starts and not re.match(r"(\.\. |:|    )", before) and not before.endswith("::"):
            lines[i:i] = ["::", ""]
    for i, line in enumerate(lines):
        if not line.startswith((" ", ">>>")):  # |A| is a size here, and no substitution
            words = line.split("`")
            words[::2] = [word.replace("|", r"\|") for word in words[::2]]
            lines[i] = re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", "`".join(words))  # `Sample`s


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("autodoc-process-docstring", mend_docstring)
