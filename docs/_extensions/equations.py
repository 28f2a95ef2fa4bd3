r"""Mathematics as MathML, made when the site is built; numbers of equations that link.

An equation that ends in ``\tag{4.1}`` shows its number. "equation (4.1)", and any "(4.1)" on the
page of the method, becomes a link to it; so does "method.md, section 4", and the name of a page.
"""

import re
from collections.abc import Iterator
from html import escape
from typing import Any, NamedTuple

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

METHOD = "explanation/method"
TAG = re.compile(r"\s*\\tag\{(.*?)\}")
NUMBER = r"\((?:\d+|[A-Z])\.\d+\)"
LINK = r"(?:,\s+and\s+|\s+and\s+|\s+to\s+|,\s+)"
CITED = re.compile(rf"[Ee]quations?\s+{NUMBER}(?:{LINK}{NUMBER})*")
SIDES = {"l": "left", "r": "right"}
FILE = re.compile(r"\bdocs/([\w/-]+)\.md\b")
SECTIONS = re.compile(rf"\bmethod\.md,\s+sections?\s+(?:\d+|[A-Z]\b)(?:{LINK}(?:\d+|[A-Z]\b))*")
PLAIN = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.reference)
PLAIN = (*PLAIN, nodes.title, nodes.raw, nodes.comment)


class Link(NamedTuple):
    """A piece of a text that becomes a link."""

    start: int
    stop: int
    page: str
    anchor: str
    shown: str


Places = dict[str, tuple[str, str]]
"""Number of an equation, or of a section of the method -> its page and its anchor there."""


def to_mathml(latex: str, *, block: bool) -> str:
    """MathML of a formula; a command that is not known is an error.

    Raises:
        ValueError: the formula holds a command that latex2mathml does not know.
    """
    # A closing parenthesis of a given size that carries an exponent would lose its size.
    latex = re.sub(r"\\[bB]ig(l|r)(?![a-zA-Z])", lambda f: rf"\{SIDES[f[1]]}", latex)
    made = convert(latex, display="block" if block else "inline")
    if unknown := re.findall(r">\s*(\\[a-zA-Z]+)\s*<", made):
        raise ValueError(f"latex2mathml does not know {', '.join(unknown)}: {latex}")
    # The bar and the hat lie close above their letter, as accents do.
    made = re.sub(
        r'<mover>(<m[in]>[^<]*</m[in]>)<mo stretchy="true">&#x000AF;</mo></mover>',
        r'<mover accent="true">\1<mo stretchy="false">&#x000AF;</mo></mover>',
        made,
    )
    # The font's prime is raised and small already.
    made = re.sub(
        r"<msup>(<m[in]>[^<]*</m[in]>)<mi>&#x02032;</mi></msup>",
        r'<mrow>\1<mo lspace="0" rspace="0">&#x02032;</mo></mrow>',
        made,
    )
    # Names of functions stand a little apart from what is before and after them.
    made = re.sub(
        r"<m[io]>(exp|log|min|max|cos|sin|tr)</m[io]>(<mo stretchy=\"false\">&#x00028;)?",
        lambda found: (
            f'<mo lspace="0.15em" rspace="{"0" if found[2] else "0.15em"}">{found[1]}</mo>'
            + (found[2] or "")
        ),
        made,
    )
    source = f'<annotation encoding="application/x-tex">{escape(latex.strip())}</annotation>'
    head, body = made.removesuffix("</math>").split(">", 1)
    return f"{head}><semantics>{body}{source}</semantics></math>"


def places(env: BuildEnvironment) -> Places:
    """What is known of numbers so far."""
    if not hasattr(env, "numbered_places"):
        env.numbered_places = {}  # pyright: ignore[reportAttributeAccessIssue]
    return env.numbered_places  # pyright: ignore[reportAttributeAccessIssue]


class EquationNumbers(SphinxTransform):
    """Takes the numbers out of the formulas; notes where each stands."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        page = self.env.docname
        for block in self.document.findall(nodes.math_block):
            text = block.astext()
            if not (found := TAG.search(text)):
                continue
            number, anchor = found[1], f"equation-{found[1].replace('.', '-')}"
            block["tag"], block["anchor"] = number, anchor
            block[:] = [nodes.Text(TAG.sub("", text))]
            known = places(self.env)
            if page == METHOD or known.get(number, (page,))[0] != METHOD:
                known[number] = (page, anchor)
        if page == METHOD:
            for section in self.document.findall(nodes.section):
                if named := re.match(r"(\d+|[A-Z])\. ", section[0].astext()):
                    places(self.env)[named[1]] = (page, section["ids"][0])


class EquationLinks(SphinxPostTransform):
    """Makes links of the numbers, and of the pages that docstrings name by their files."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if not any(isinstance(above, PLAIN) for above in ancestors(text)):
                pieces = list(self.linked(str(text)))
                if len(pieces) > 1:
                    text.parent.replace(text, pieces)

    def linked(self, text: str) -> Iterator[nodes.Node]:
        """The text in pieces, of which some are links."""
        at = 0
        for link in sorted(self.links(text)):
            yield nodes.Text(text[at : link.start])
            uri = self.app.builder.get_relative_uri(self.env.docname, link.page)
            uri += f"#{link.anchor}" if link.anchor else ""
            yield nodes.reference("", link.shown, internal=True, refuri=uri)
            at = link.stop
        yield nodes.Text(text[at:])

    def links(self, text: str) -> Iterator[Link]:
        """What links there are in a text."""
        whole = re.finditer(r"(?s)\A.*\Z", text)
        for cited in whole if self.env.docname == METHOD else CITED.finditer(text):
            yield from self.numbers(cited, NUMBER)
        for cited in SECTIONS.finditer(text):
            stop = cited.start() + len("method.md")
            yield Link(cited.start(), stop, METHOD, "", "method")
            yield from self.numbers(cited, r"(?<=\s)(?:\d+|[A-Z])\b")
        for named in FILE.finditer(text):
            if named[1] in self.env.titles:
                title = self.env.titles[named[1]].astext()
                yield Link(
                    named.start(),
                    named.end(),
                    named[1],
                    "",
                    f"\N{LEFT DOUBLE QUOTATION MARK}{title}\N{RIGHT DOUBLE QUOTATION MARK}",
                )

    def numbers(self, cited: re.Match[str], form: str) -> Iterator[Link]:
        """The known numbers in a citation."""
        for found in re.finditer(form, cited[0]):
            start = cited.start() + found.start()
            if place := places(self.env).get(found[0].strip("()")):
                yield Link(start, start + len(found[0]), *place, found[0])


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    """What a node stands in."""
    while node.parent is not None:
        node = node.parent
        yield node


def inline(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(to_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def displayed(translator: Any, node: nodes.math_block) -> None:
    """A formula in a line of its own, with its number; too wide a formula scrolls."""
    number, anchor = node.get("tag"), node.get("anchor")
    translator.body.append(f'<div class="equation"{f" id={anchor!r}" if anchor else ""}>')
    made = to_mathml(node.astext(), block=True)
    translator.body.append(f'<div class="equation-formula" tabindex="0">{made}</div>')
    if number:
        translator.body.append(f'<a class="equation-number" href="#{anchor}">({number})</a>')
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def forget(_: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget a page that is read anew."""
    for number in [n for n, (where, _) in places(env).items() if where == page]:
        del places(env)[number]


def merge(_: Sphinx, env: BuildEnvironment, pages: Any, other: BuildEnvironment) -> None:
    """Take over what another process of the build has read."""
    for number, place in places(other).items():
        if place[0] == METHOD or number not in places(env):
            places(env)[number] = place


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    app.add_transform(EquationNumbers)
    app.add_post_transform(EquationLinks)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
