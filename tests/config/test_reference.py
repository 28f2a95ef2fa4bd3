"""docs/reference/settings.md is the config's own page."""

from pathlib import Path

from ctrak_jax.config import fields
from ctrak_jax.config.reference import page


def test_the_page_is_current():
    """Else: python -m ctrak_jax.config.reference > docs/reference/settings.md"""
    assert (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text() == page()


def test_every_setting_has_a_meaning():
    assert all(field.description for field in fields().values())
