"""docs/reference/settings.md: every setting with its default and its meaning.

python -m ctrak_jax.config.reference > docs/reference/settings.md
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from ctrak_jax.config.settings import Config, sections

HEAD = """# Settings

A config is a YAML file of the settings that differ from these defaults. On the command line
`--section.setting VALUE` goes on top; lists and mappings are YAML (`--run.seeds '[0, 1]'`).
`ctrak config CONFIG` prints every setting of a config.

Settings marked ° change time and memory and, beyond rounding, no number.

This page is made from the config: `python -m ctrak_jax.config.reference >
docs/reference/settings.md`.
"""


def page() -> str:
    """The page in Markdown: a table per section."""
    nested = sections()
    parts = [HEAD, _table({n: f for n, f in Config.model_fields.items() if n not in nested})]
    for name, section in nested.items():
        parts += [f"## {name}\n\n{section.__doc__}\n", _table(section.model_fields)]
    return "\n".join(parts)


def _table(fields: Mapping[str, FieldInfo]) -> str:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        given = field.default
        text = given if isinstance(given, str) else json.dumps(given)
        default = "" if given in (None, "") else f"`{text}`"
        meaning = " ".join((field.description or "").split())
        choices = ", ".join(f"`{value}`" for value in _choices(field.annotation))
        meaning += f" Values: {choices}." if choices else ""
        lines.append(
            f"| `{name}`{' °' if field.json_schema_extra else ''} | {default} | {meaning} |"
        )
    return "\n".join([*lines, ""])


def _choices(kind: Any) -> tuple[Any, ...]:
    """The names that a setting, or an item of its list, may have."""
    within = get_args(kind)
    return within if get_origin(kind) is Literal else sum(map(_choices, within), ())


if __name__ == "__main__":
    print(page(), end="")
