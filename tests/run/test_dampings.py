"""Which damping is chosen: by validation questions alone, the largest as good as the best."""

from typing import Literal

import numpy as np
import pytest

from ctrak_jax.run.dampings import choose, choose_damping
from ctrak_jax.run.questions import Question


@pytest.mark.parametrize(
    ("precision", "chosen"),
    [
        ([[0.2, 0.2], [0.9, 0.9], [0.5, 0.5]], 1),  # no error: the best
        ([[0.9, 0.9], [0.9, 0.9], [0.5, 0.5]], 1),  # of equals the largest
        ([[0.5, 1.0], [0.4, 0.9], [0.3, 0.8]], 1),  # one standard error is .25 / sqrt(2) = .18
        ([[0.5, 1.0], [0.4, 0.9], [0.4, 0.8]], 2),
        ([[0.0, 0.0], [0.0, 0.0]], 1),
    ],
)
def test_the_largest_within_one_standard_error_of_the_best(precision, chosen):
    assert choose_damping(np.array(precision)) == chosen


def question(attribute: str, split: Literal["report", "validation"]) -> Question:
    return Question(
        query="circle-red-00",
        condition={"shape": "circle", "color": "red"},
        attribute=attribute,
        minus={},
        scope="local",
        scenario="id",
        split=split,
        image="images/circle-red-00.png",
    )


def test_the_curve_has_all_questions_and_the_choice_those_of_validation():
    """By the report's questions 1 were better; color is best at 1, shape at 10."""
    asked = [question("shape", "validation"), question("color", "validation")]
    asked += [question("shape", "report"), question("color", "report")]
    precision = np.array([[0.5, 0.75, 1.0, 0.5], [1.0, 0.5, 0.0, 0.0]])
    found = choose(asked, precision, (1.0, 10.0), "attribute")
    assert found.by_attribute == {"shape": 10.0, "color": 1.0}
    assert found.chosen == 10.0
    curve = {(point.r, point.split): point.precision for point in found.curve}
    assert curve == {
        (1.0, "validation"): 0.625,
        (1.0, "report"): 0.75,
        (10.0, "validation"): 0.75,
        (10.0, "report"): 0.0,
    }
    assert choose(asked, precision, (1.0, 10.0), "method").by_attribute == {}
    assert choose(asked[2:], precision[:, 2:], (1.0, 10.0), "attribute").chosen == 10.0


def test_without_any_question_the_damping_is_the_largest():
    """As of a reward that answers none of a variant's questions."""
    found = choose([], np.zeros((2, 0)), [1.0, 10.0], "attribute")
    assert (found.chosen, found.by_attribute, found.curve) == (10.0, {}, ())
