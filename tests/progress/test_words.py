"""Times and rates in words."""

import pytest

from ctrak_jax.progress import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (150, "2.5 min"),
        (596, "9.9 min"),
        (600, "10 min"),
        (7000, "117 min"),
        (9000, "2.5 h"),
    ],
)
def test_spans(seconds, said):
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("rate", "said"), [(12.34, "12.3/s"), (1.0, "1.0/s"), (0.25, "4.0 s each")]
)
def test_rates(rate, said):
    assert words.rate(rate) == said
