"""Tables as plain text."""

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def text_table(
    title: str,
    left: Sequence[str],
    right: Sequence[str],
    rows: Iterable[Sequence[str]],
    below: Iterable[Sequence[str]] = (),
    width: int = 110,
) -> str:
    """Columns ``left``, then ``right``, which are set to the right; at most ``width`` wide. A rule
    parts ``rows`` from those ``below``."""
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    for row in below:
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=width, markup=False).print(table)
    return text.getvalue()
