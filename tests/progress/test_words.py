"""Times and rates in words."""

import pytest

from ctrak_jax.progress import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (119.0, "119 s"),
        (150.0, "2.5 min"),
        (596.0, "9.9 min"),
        (600.0, "10 min"),
        (7000.0, "117 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_spans(seconds, said):
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("rate", "said"), [(12.34, "12.3/s"), (1.0, "1.0/s"), (0.25, "4.0 s each")]
)
def test_rates(rate, said):
    assert words.rate(rate) == said
