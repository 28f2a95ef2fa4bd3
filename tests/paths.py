"""Where the tests find files of the repository."""

from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"
ROOT = FIXTURES.parents[1]
