"""Pages whose text stands outside docs/: notebooks, the list of changes, the list of measurements.

GitHub shows these files where they are. The site shows notebooks as tutorials, and the other files
in the place of the short pages that link to them. Links between them and docs/ follow.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
TUTORIALS = DOCS / "tutorials"
PAGES = {
    "project/changes": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "results/measurements": "benchmarks/README.md",
}
INTERVAL = re.compile(r"(?<=\d,) (?=[-\u2212]?[\d.]+\])")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")


def copy_notebooks(*_: Any) -> None:
    """Put the notebooks where Sphinx finds them, and remove those that are no more."""
    for old in TUTORIALS.glob("*.py"):
        old.unlink()
    for notebook in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        shutil.copy(notebook, TUTORIALS / notebook.name)


def shown_at(file: str) -> str:
    """Where the site shows a file of the repository; the file itself if it does not."""
    pages = {f"docs/{page}.md": source for page, source in PAGES.items()}
    for page, source in pages.items():
        if file == source:
            return page
    if file == "README.md":
        return "docs/index.md"
    if re.fullmatch(r"notebooks/\d\w*\.py", file):
        return file.replace("notebooks/", "docs/tutorials/")
    return file


def relinked(text: str, origin: str, page: str) -> str:
    """A text with its links as seen from its page. Code stays as it is.

    Args:
        text: Markdown, or a notebook as Python.
        origin: its file, from the root of the repository.
        page: the file of the page that shows it, likewise.
    """

    def link(found: re.Match[str]) -> str:
        file = os.path.normpath(os.path.join(os.path.dirname(origin), found[1]))
        return f"]({os.path.relpath(shown_at(file), os.path.dirname(page))}"

    def line(text: str) -> str:
        text = INTERVAL.sub("\u00a0", text) if text.startswith("|") else text
        return LINK.sub(link, text)

    if page.endswith(".py"):
        return re.sub(r"^# .*$", lambda found: line(found[0]), text, flags=re.MULTILINE)
    pieces = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    outside_code = ["\n".join(map(line, piece.split("\n"))) for piece in pieces[::2]]
    return "".join(a + b for a, b in zip(outside_code, [*pieces[1::2], ""], strict=True))


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """What Sphinx reads in the place of a page's own text."""
    suffix = ".py" if (TUTORIALS.parent / f"{docname}.py").exists() else ".md"
    page = f"docs/{docname}{suffix}"
    origin = page
    if docname in PAGES:
        origin = PAGES[docname]
        app.env.note_dependency(str(ROOT / origin))
        source[0] = (ROOT / origin).read_text("utf-8")
    elif suffix == ".py":
        origin = page.replace("docs/tutorials/", "notebooks/")
    elif docname == "tutorials/index" and not any(TUTORIALS.glob("*.py")):
        source[0] = source[0].partition("```{toctree}")[0]  # a pattern without a page is a warning
    source[0] = relinked(source[0], origin, page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    copy_notebooks()
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
