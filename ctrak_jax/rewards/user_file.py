"""``python:FILE.py:function``: a reward that is a function in a file of the user's."""

import hashlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.base import Concept, ConceptReward, Picture, RewardRequest
from ctrak_jax.typing import Array, Params, Scalar


class FunctionPlace(NamedTuple):
    """A function by its name in a file."""

    file: Path
    name: str


def load(place: str, request: RewardRequest) -> ConceptReward:
    """The reward ``FILE.py:function``.

    The function takes a picture [H, W, 3] in [-1, 1], and may take a second argument, the value (or
    the words) asked about, as text. It gives one number, or None for a concept it does not judge.

    Raises:
        UsageError: no such file or function, an exception in it, or another result.
    """
    where = function_place(place)
    function = _function(where)
    about = _about(where, function)
    by_concept = _by_concept(where.file, about, function)
    picture = jax.ShapeDtypeStruct(request.image_shape, jnp.float32)
    functions = {concept: by_concept(concept) for concept in request.concepts}
    judged = {c: found for c, found in functions.items() if _judges(about, found, c, picture)}
    if not judged:
        asked = ", ".join(map(str, request.concepts))
        raise UsageError(f"{about} returns None for all that is asked about ({asked}).")
    branches = list(dict.fromkeys(judged.values()))  # under vmap all of them are evaluated

    def fn(_: Params, picture: Picture, target: Array, /) -> Scalar:
        return jax.lax.switch(target, branches, picture)

    targets = {c: np.asarray(branches.index(found), np.int32) for c, found in judged.items()}
    return ConceptReward(fn, (), targets, about)


def key(place: str, config: Config, folder: Path) -> Mapping[str, Any]:
    """The function's name, and the hash of its file; not of what that imports.

    Raises:
        UsageError: no such file.
    """
    where = function_place(place)
    return {"function": where.name, "sha256": hashlib.sha256(_text(where.file)).hexdigest()}


def function_place(place: str) -> FunctionPlace:
    """``FILE.py:function`` in parts."""
    file, _, name = place.rpartition(":")
    return FunctionPlace(Path(file), name)


def _text(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"the reward's file {file}: {reason}; give python:FILE.py:function."
        ) from None


def _function(where: FunctionPlace) -> Callable[..., Any]:
    """Run the file, and take the function."""
    _text(where.file)
    spec = spec_from_file_location("ctrak_user_reward", where.file)
    if spec is None or spec.loader is None:
        raise UsageError(f"the reward's file {where.file} is no Python file; its name ends in .py.")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _fault(where.file, error) from None
    found = getattr(module, where.name, None)
    if not callable(found):
        known = [
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        raise UsageError(f"{where.file} has no function {where.name!r}; it has {known}.")
    return found


def _about(where: FunctionPlace, function: Callable[..., Any]) -> str:
    """``FILE.py:LINE: function``, where it is a plain one, also below decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    line = f":{code.co_firstlineno}" if code is not None else ""
    return f"{where.file}{line}: {where.name}"


def _by_concept(
    file: Path, about: str, function: Callable[..., Any]
) -> Callable[[Concept], Callable[[Picture], Any]]:
    """The function of a picture by concept, one and the same where the text that the function gets
    is; where it fails, the error says."""
    parameters = inspect.signature(function).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in plain and p.default is p.empty]
    if not 1 <= len(needed) <= 2:
        raise UsageError(
            f"{about} takes {len(needed)} arguments; a reward takes the picture, or the picture "
            "and the value asked about."
        )

    @cache
    def of_text(*more: str) -> Callable[[Picture], Any]:
        def of_picture(picture: Picture) -> Any:
            try:
                found = function(picture, *more)
            except Exception as error:
                raise _fault(file, error) from None
            if found is None:
                return None
            try:
                return jnp.asarray(found, jnp.float32)
            except (TypeError, ValueError):
                kind = type(found).__name__
                raise UsageError(f"{about} returns a {kind}; a reward is one number.") from None

        return of_picture

    def of_concept(concept: Concept) -> Callable[[Picture], Any]:
        text = concept.name if concept.value is None else concept.value
        return of_text(text) if len(needed) == 2 else of_text()

    return of_concept


def _judges(
    about: str,
    of_picture: Callable[[Picture], Any],
    concept: Concept,
    picture: jax.ShapeDtypeStruct,
) -> bool:
    """Does the function give a number for the concept?

    Raises:
        UsageError: it gives an array, or fails.
    """
    found = jax.eval_shape(of_picture, picture)
    if found is None:
        return False
    if found.shape != ():
        raise UsageError(
            f"{about} returns an array of shape {found.shape} for {concept}; a reward is one "
            "number, such as its mean()."
        )
    return True


def _fault(file: Path, error: Exception) -> UsageError:
    """One line: the line of the file where it failed, and what Python said."""
    inside = [frame for frame in traceback.extract_tb(error.__traceback__) if _is(frame, file)]
    line: int | None = inside[-1].lineno if inside else None
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line = error.lineno
    said = next(iter(str(error).strip().splitlines()), "")
    at = f"{file}:{line}" if line else str(file)
    return UsageError(f"{at}: {type(error).__name__}: {said}".rstrip(": ."))


def _is(frame: traceback.FrameSummary, file: Path) -> bool:
    return Path(frame.filename).absolute() == file.absolute()
