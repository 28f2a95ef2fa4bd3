"""Rewards that are functions in a user's file."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import rewards
from ctrak_jax.config import Config
from ctrak_jax.config.query import REWARDS
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards import Concept

RED, BLUE, ROUND = Concept("color", "red"), Concept("color", "blue"), Concept("shape", "circle")
SHAPE = (4, 6, 3)


def load(file: Path, text: str, *concepts: Concept, name: str = "reward"):
    file.write_text(text)
    return load_there(file, *concepts, name=name)


def load_there(file: Path, *concepts: Concept, name: str = "reward"):
    found = rewards.of(config(file, name), concepts or (RED,), SHAPE, Path("run"))
    assert found is not None
    return found


def config(file: Path, name: str = "reward") -> Config:
    return Config.model_validate({"query": {"reward": f"python:{file}:{name}"}})


def picture(seed: int = 0):
    return jax.random.uniform(jax.random.key(seed), SHAPE, minval=-1.0)


def value(reward, concept: Concept, x=None) -> float:
    x = picture() if x is None else x
    return float(reward.fn(reward.params, x, jnp.asarray(reward.targets[concept])))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.py"


def test_the_slider_is_no_other_reward():
    assert rewards.of(Config(), [RED], SHAPE, Path("run")) is None
    assert rewards.key(Config(), Path("run")) == {"kind": "slider"}


def test_a_function_of_the_picture_judges_every_concept_alike(file):
    found = load(file, "def reward(image):\n    return image[..., 0].mean()\n", RED, ROUND)
    expected = np.asarray(picture())[..., 0].mean()
    for concept in (RED, ROUND):
        np.testing.assert_allclose(value(found, concept), expected, rtol=1e-6)


BY_VALUE = """
def reward(image, value):
    channel = {"red": 0, "blue": 2}.get(value)
    return None if channel is None else image[..., channel].mean()
"""


def test_a_function_that_is_told_the_value_judges_each_by_its_own(file):
    found = load(file, BY_VALUE, ROUND, RED, BLUE)
    assert set(found.targets) == {RED, BLUE}  # None: not judged
    x = np.asarray(picture())
    np.testing.assert_allclose(value(found, RED), x[..., 0].mean(), rtol=1e-6)
    np.testing.assert_allclose(value(found, BLUE), x[..., 2].mean(), rtol=1e-6)


def test_of_concepts_by_the_same_text_one_function_is_traced(file):
    """Under vmap every branch of a switch is evaluated."""
    shown = [Concept(name, "yes") for name in ("hat", "beard")]
    alike = load(file, "def reward(image):\n    return image.mean()\n", RED, BLUE, ROUND)
    by_text = load(file, "def reward(image, text):\n    return image.mean() * len(text)\n", *shown)
    for found in (alike, by_text):
        assert {int(target) for target in found.targets.values()} == {0}
        targets = jnp.stack(list(found.targets.values()))
        traced = jax.make_jaxpr(jax.vmap(found.fn, (None, None, 0)))((), picture(), targets)
        assert str(traced).count("reduce_sum") == 1


def test_the_kinds_are_those_of_the_config():
    assert set(REWARDS) == {"slider", *rewards.KINDS}


def test_words_are_told_as_they_are(file):
    found = load(
        file,
        'def reward(image, words):\n    return image.sum() * (words == "a hat")\n',
        Concept("a hat"),
    )
    np.testing.assert_allclose(value(found, Concept("a hat")), picture().sum(), rtol=1e-5)


def test_targets_may_be_traced_and_stacked(file):
    found = load(file, BY_VALUE, RED, BLUE)
    targets = jnp.stack([found.targets[RED], found.targets[BLUE]])
    both = jax.jit(jax.vmap(found.fn, (None, None, 0)))(found.params, picture(), targets)
    np.testing.assert_allclose(both, picture().mean((0, 1))[jnp.array([0, 2])], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("def reward(image)\n    return 0\n", 1, "SyntaxError: expected ':'"),
        ("import nothing_of_this_name\n", 1, "ModuleNotFoundError"),
        ("def reward(image):\n    a = 1\n    return image.nothing\n", 3, "AttributeError"),
        ("def reward(image):\n    return float(image.mean())\n", 2, "ConcretizationTypeError"),
        ("\n\ndef reward(image):\n    return image.mean(0)\n", 3, "array of shape (6, 3)"),
        ("def reward(a, b, c):\n    return a.mean()\n", 1, "takes 3 arguments"),
        ("def reward(image):\n    return None\n", 1, "returns None for all that is asked about"),
        ("def reward(image):\n    return {'a': 1}\n", 1, "returns a dict; a reward is one number"),
    ],
    ids=lambda found: str(found)[:30],
)
def test_a_fault_of_the_file_is_one_line_with_its_place(file, text, line, said):
    with pytest.raises(UsageError) as error:
        load(file, text)
    message = str(error.value)
    assert "\n" not in message
    assert f"{file}:{line}: " in message
    assert said in message


def test_a_function_or_file_that_is_not_there(file):
    with pytest.raises(UsageError, match="No such file"):
        load_there(file)
    with pytest.raises(UsageError, match="No such file"):
        rewards.key(config(file), Path("run"))
    with pytest.raises(UsageError, match=r"has no function 'other'; it has \['reward'\]"):
        load(file, "import math\n\ndef reward(image):\n    return image.mean()\n", name="other")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("python:mine.py", "names no function"),
        ("python", "names no function"),
        ("pyhton:mine.py:reward", "did you mean 'python'"),
        ("slider:mine.py", "slider has none"),
    ],
)
def test_a_name_of_no_reward_is_refused(spec, said):
    with pytest.raises(ValueError, match=said):
        Config.model_validate({"query": {"reward": spec}})


def test_the_key_is_the_files_content_and_the_function(file, tmp_path):
    text = "def reward(image):\n    return image.mean()\n\nother = reward\n"
    file.write_text(text)
    copy = tmp_path / "elsewhere.py"
    copy.write_text(text)
    run = Path("run")
    assert rewards.key(config(file), run) == rewards.key(config(copy), run)
    assert rewards.key(config(file), run) != rewards.key(config(file, "other"), run)
    copy.write_text(text.replace("mean", "sum"))
    assert rewards.key(config(file), run) != rewards.key(config(copy), run)


# The check of the gradient


def refused(file: Path, body: str, x=None) -> str:
    header = "import jax\nimport jax.numpy as jnp\n\ndef reward(image):\n    return "
    found = load(file, f"{header}{body}\n")
    shown = np.asarray(picture() if x is None else x)[None]
    with pytest.raises(UsageError) as error:
        rewards.check(found, [RED], [shown])
    message = str(error.value)
    assert message.startswith(f"{file}:4: reward: for color=red the")
    assert "\n" not in message
    return message


def test_a_right_gradient_passes(file):
    smooth = (
        "import jax.numpy as jnp\n\ndef reward(image):\n    "
        "return jnp.tanh(3 * image).sum() + 1000.0 * jnp.log(1.5 + image[0, 0, 0])\n"
    )
    rewards.check(load(file, smooth), [RED], [np.stack([picture(n) for n in range(3)])])


def test_a_gradient_that_is_not_the_rewards_is_refused(file):
    stopped = refused(file, "(image * jax.lax.stop_gradient(image)).sum()")
    assert "50% of its length" in stopped or "away from finite differences" in stopped
    assert "tolerance 5%" in stopped


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_number_is_refused(file):
    with jax.debug_nans(False):
        assert "the reward is nan" in refused(file, "jnp.log(-1.0 - image ** 2).sum()")
        flat = np.zeros(SHAPE, np.float32)
        assert "gradient has NaN or infinite" in refused(file, "jnp.sqrt(image ** 2).sum()", flat)


def test_a_flat_reward_is_refused(file):
    assert "gradient is 0 at all 1 pictures" in refused(file, "(image > 0).mean()")


def test_one_picture_where_a_reward_is_flat_is_no_fault(file):
    found = load(file, "def reward(image):\n    return (image.clip(0) ** 2).sum()\n")
    dark = np.full(SHAPE, -0.9, np.float32)
    rewards.check(found, [RED], [np.stack([dark, np.asarray(picture())])])
    with pytest.raises(UsageError, match="gradient is 0 at all 1 pictures"):
        rewards.check(found, [RED], [dark[None]])
