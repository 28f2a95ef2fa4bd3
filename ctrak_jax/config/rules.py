"""What must hold between sections: each rule says what is wrong and what to do, or nothing."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, get_args

from ctrak_jax.methods import REFERENCES

if TYPE_CHECKING:
    from ctrak_jax.config.settings import Config


def _chunks_divide_timesteps(config: "Config") -> str | None:
    chunk, times = config.gradient.time_chunk, config.timesteps
    divisors = [n for n in range(1, times + 1) if times % n == 0]
    wrong = f"gradient.time_chunk={chunk} must divide the {times} attribution timesteps"
    return None if chunk in (None, *divisors) else f"{wrong}; use one of {divisors}"


def _check_knows_images(config: "Config") -> str | None:
    kind, check = config.data.kind, config.query.check
    wrong = f"query.check={check} knows only drawn shapes; use query.check: none for data.kind="
    if check == "shapes" and kind == "synthetic" and config.data.objects != 1:
        return "query.check=shapes knows pictures of one shape; use query.check: none for two"
    return f"{wrong}{kind}" if kind != "synthetic" and check == "shapes" else None


def _text_has_captions(config: "Config") -> str | None:
    kind = config.data.kind
    wrong = f"model.kind=text-to-image needs captions, data.kind={kind} has none; use a folder with"
    needed = config.model.kind == "text-to-image" and kind not in ("folder", "abc")
    return f"{wrong} captions" if needed else None


def _abc_has_a_model(config: "Config") -> str | None:
    model = config.model
    given = model.kind == "text-to-image" and model.checkpoint is not None
    wrong = "data.kind=abc needs model.kind: text-to-image and model.checkpoint, the folder of a "
    return None if config.data.kind != "abc" or given else f"{wrong}Stable Diffusion model"


def _abc_has_no_attributes(config: "Config") -> str | None:
    negative = config.trajectory.negative
    wrong = f"data.kind=abc has no attributes, so trajectory.negative={negative} means nothing; use"
    abc = config.data.kind == "abc"
    changed = abc and config.guided and negative in ("attribute", "opposite")
    return f"{wrong} null, other or prompt" if changed else None


def _resampled_images_have_seeds(config: "Config") -> str | None:
    needed = config.query.path == "resample" and config.data.kind != "abc"
    wrong = "query.path=resample needs images whose names are their seeds, data.kind="
    return f"{wrong}{config.data.kind} has none; use inversion" if needed else None


def _dit_has_a_condition(config: "Config") -> str | None:
    needed = config.model.kind == "dit" and not config.data.condition_on
    wrong = "data.condition_on is empty, so a dit has no condition: a reward alone can ask it; "
    advice = "give at least one, or query.reward, or model.kind: text-to-image where there are "
    return f"{wrong}{advice}captions" if needed and config.query.reward == "slider" else None


def _negatives_have_attributes(config: "Config") -> str | None:
    wrong = f"trajectory.negative={config.trajectory.negative} changes attributes of "
    advice = "data.condition_on, which is empty; use other, null or prompt"
    return wrong + advice if config.guided and not config.negatives else None


def _negative_prompt_is_read(config: "Config") -> str | None:
    kind = config.model.kind
    needed = config.trajectory.negative == "prompt" and kind != "text-to-image"
    wrong = f"trajectory.negative=prompt needs a text, model.kind={kind} has none; use attribute,"
    return f"{wrong} opposite, other or null" if needed else None


def _top_lists_are_deep_enough(config: "Config") -> str | None:
    depths, top = list(config.evaluate.k), config.score.top
    wrong = f"evaluate.k={depths} reaches deeper than score.top={top}; raise score.top"
    return wrong if max(depths) > top else None


def _wrong_label_has_scores(config: "Config") -> str | None:
    wrong = "score.keep_all=false leaves no scores for the wrong-label control; keep them, or "
    needed = "wrong-label" in config.compared_controls and not config.score.keep_all
    return f"{wrong}leave it out of controls" if needed else None


def _unnamed_attributes_are_asked_about(config: "Config") -> str | None:
    wanted, known = config.unnamed.attributes, config.data.condition_on
    wrong = [] if wanted == "all" else [name for name in wanted if name not in known]
    advice = f"no question asks about them; use some of data.condition_on={list(known)}, or all"
    return f"unnamed.attributes names {wrong}, {advice}" if wrong else None


NEEDED_BY = {
    "similarity-latents": "model.kind: text-to-image",
    "similarity-text": "model.kind: text-to-image",
    "similarity-clip": "similarity.clip, the folder of a CLIP model",
}
"""What a reference needs that not every run has."""


AbcControl = Literal["without-token", "decoys", "decoys-without-token"]
"""Controls of `ctrak abc`, and of nothing else."""
OF_ABC: tuple[AbcControl, ...] = get_args(AbcControl)


def references_of(config: "Config") -> Iterator[str]:
    """The references that a run can have."""
    text, clip = config.model.kind == "text-to-image", config.similarity.clip is not None
    given = {"similarity-latents": text, "similarity-text": text, "similarity-clip": clip}
    if config.data.kind == "abc":
        given |= dict.fromkeys(("similarity-pixels", "similarity-text", "similarity-clip"), False)
    yield from (name for name in REFERENCES if given.get(name, True))


def _references_are_possible(config: "Config") -> str | None:
    known = set(references_of(config))
    absent = [name for name in config.references if name not in known]
    if config.references == "auto" or not absent:
        return None
    if config.data.kind == "abc":
        return f"references has {absent[0]}, which data.kind=abc has not; use some of {list(known)}"
    needed = NEEDED_BY[absent[0]]
    return f"references has {absent[0]}, which needs {needed}; give that, or leave it out"


def _controls_are_possible(config: "Config") -> str | None:
    abc = config.data.kind == "abc"
    wrong = [n for n in config.controls if n != "wrong-label" and (n in OF_ABC) != abc]
    able = f"use some of {list(OF_ABC)}" if abc else "leave it out"
    if not wrong:
        return None
    return f"controls has {wrong[0]}, which data.kind={config.data.kind} has not; {able}"


def _hidden_carriers_have_scores(config: "Config") -> str | None:
    wrong = "score.keep_all=false leaves no scores to find hidden carriers by; keep them, or empty "
    needed = config.data.unlabelled and not config.score.keep_all
    return f"{wrong}data.unlabelled" if needed else None


def _unlabelled_are_hidden(config: "Config") -> str | None:
    wrong = "counterfactual.among=unlabelled leaves out images that do not name an attribute, but "
    needed = config.counterfactual.among == "unlabelled" and not config.data.unlabelled
    return f"{wrong}data.unlabelled hides none; give it one, or use all" if needed else None


def _unnamed_candidates_are_enough(config: "Config") -> str | None:
    count, deepest = config.unnamed.candidates, max(config.evaluate.k)
    wrong = f"unnamed.candidates={count} are fewer than precision@{deepest} needs; raise it, or "
    return f"{wrong}lower evaluate.k" if count is not None and count < deepest else None


def _reward_is_given(config: "Config") -> str | None:
    wrong = "methods has reward, but query.reward=slider names no other reward; write "
    needed = "reward" in config.methods and config.query.reward == "slider"
    return f"{wrong}query.reward: python:FILE.py:function, or leave it out" if needed else None


def _reward_is_asked(config: "Config") -> str | None:
    needed = config.data.kind == "abc" and config.query.reward != "slider"
    wrong = "data.kind=abc asks by its tasks' prompts, so query.reward is not used; leave it out"
    return wrong if needed else None


def _classifier_has_attributes(config: "Config") -> str | None:
    needed = config.query.reward == "classifier" and not config.data.condition_on
    wrong = "query.reward=classifier is fitted on attributes and data.condition_on is empty; give "
    return f"{wrong}at least one, or classifier:FILE of `ctrak reward fit`" if needed else None


def _ensemble_has_several_models(config: "Config") -> str | None:
    if not config.score.ensemble:
        return None
    if len(config.run.seeds) < 2:
        return "score.ensemble averages over run.seeds, of which there is one; give several"
    wrong = "score.ensemble averages scores, score.keep_all=false leaves none; keep them"
    return None if config.score.keep_all else wrong


RULES: tuple[Callable[["Config"], str | None], ...] = (
    *(_chunks_divide_timesteps, _check_knows_images, _text_has_captions),
    *(_abc_has_a_model, _abc_has_no_attributes, _resampled_images_have_seeds),
    _dit_has_a_condition,
    *(_negatives_have_attributes, _negative_prompt_is_read),
    _unnamed_attributes_are_asked_about,
    *(_top_lists_are_deep_enough, _wrong_label_has_scores),
    *(_references_are_possible, _controls_are_possible),
    *(_reward_is_given, _reward_is_asked, _classifier_has_attributes),
    *(_hidden_carriers_have_scores, _unlabelled_are_hidden),
    *(_unnamed_candidates_are_enough, _ensemble_has_several_models),
)
