"""A proposal as a commented config."""

import textwrap
from typing import Any

import yaml

from ctrak_jax.config import Config
from ctrak_jax.start.proposal import Proposal
from ctrak_jax.start.situation import Choice

WIDTH = 100


def written(proposal: Proposal, file: str) -> str:
    """The YAML file: what to expect, then every setting below the reason for it."""
    lines = [f"# {command}" for command in proposal.commands(file)]
    for paragraph in (proposal.estimate, *proposal.notes):
        lines += commented(paragraph, 0)
    top = [choice for choice in proposal.choices if "." not in choice.setting]
    for choice in top:
        lines += ["", *_setting(choice, choice.setting, 0)]
    for section in Config.model_fields:
        own = [c for c in proposal.choices if c.setting.startswith(f"{section}.")]
        if own:
            lines += ["", f"{section}:"]
        for choice in own:
            lines += _setting(choice, choice.setting.partition(".")[2], 2)
    lines += [
        "",
        *commented(
            "All other settings are the defaults: ctrak config, docs/reference/settings.md.", 0
        ),
    ]
    return "\n".join(lines) + "\n"


def _setting(choice: Choice, name: str, indent: int) -> list[str]:
    return [*commented(choice.why, indent), f"{' ' * indent}{name}: {inline(choice.value)}"]


def commented(text: str, indent: int) -> list[str]:
    """A paragraph as lines of comment."""
    start = " " * indent + "# "
    return wrapped(text, start, start)


def wrapped(text: str, first: str, then: str) -> list[str]:
    """A paragraph as lines that begin so; those of it that are indented stay whole."""
    lines: list[str] = []
    for line in text.split("\n"):
        start = then if lines else first
        if line.startswith(" "):
            lines.append(start + line)
            continue
        lines += textwrap.wrap(
            line,
            WIDTH,
            initial_indent=start,
            subsequent_indent=then,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def inline(value: Any) -> str:
    """A value in YAML, in one line."""
    found = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return found.removesuffix("\n").removesuffix("\n...")
