"""What must hold for the pages as built: every link within the site leads to an element that is
there, and showing a page asks no other machine for anything."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """The anchors of a page, its links, and what a browser fetches to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a":
            self.links |= {values[name] for name in ("href",) if name in values}
        else:
            self.fetched |= {values[name] for name in ("src", "href", "data") if name in values}


def faults(site: Path) -> list[str]:
    """Dead links, and addresses of other machines that pages fetch from."""
    pages = {file: Page(file.read_text("utf-8")) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        name = file.relative_to(site)
        found += [f"{name} fetches {url}" for url in page.fetched if urlsplit(url).netloc]
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            other = pages.get(target)
            if not target.exists():
                found.append(f"{name} links to {link}: no such file")
            elif other and url.fragment and unquote(url.fragment) not in other.anchors:
                found.append(f"{name} links to {link}: no such place on that page")
    for sheet in site.rglob("*.css"):
        text = sheet.read_text("utf-8")
        if "url(http" in text or "url(//" in text or "@import" in text:
            found.append(f"{sheet.relative_to(site)} fetches from elsewhere")
    return found


def check(app: Sphinx, failure: Exception | None) -> None:
    """Warn of every fault; `make docs` makes errors of warnings."""
    if failure is None and app.builder.name == "html":
        for fault in faults(Path(app.outdir)):
            logger.warning(fault)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
