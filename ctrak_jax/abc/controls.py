"""Is it the token or the picture? Exemplars under other prompts, and decoys under theirs.

The exemplars' prompt has the new token, and so has the question: who looks the token up finds every
exemplar. Controls take that away. Without the token exemplars are denoised under the rest of their
prompt; decoys are LAION's rows, none of them a candidate already, under the exemplars' prompt. Both
together leave the picture alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctrak_jax.abc.inputs import Exemplars, TaskPrompt, without_tokens
from ctrak_jax.config.rules import OF_ABC
from ctrak_jax.errors import UsageError


class CandidateForm(NamedTuple):
    """What candidates a control has: exemplars with or without the token, and decoys or none."""

    token: bool
    decoys: bool


PUBLISHED = CandidateForm(token=True, decoys=False)
CONTROLS = {
    name: CandidateForm(token="without-token" not in name, decoys="decoys" in name)
    for name in OF_ABC
}
"""The controls of ``ctrak abc`` by name, which says what candidates they have."""


def controlled(
    exemplars: Exemplars, form: CandidateForm, spare: np.ndarray, count: int, seed: int
) -> Exemplars:
    """The candidates of a control beside LAION's.

    Args:
        exemplars: as published.
        form: of the control.
        spare: LAION's rows that are no candidates.
        count: decoys of a customised model.
        seed: of their choice.

    Raises:
        UsageError: there are fewer spare rows than decoys.
    """
    files, _, prompts, of = exemplars
    if not form.token:
        prompts = tuple(map(_without_token, prompts))
    if not form.decoys:
        return Exemplars(files, (), prompts, of)
    if len(spare) < count:
        raise UsageError(
            f"data.decoys={count} need as many LAION rows that are no candidates, there are "
            f"{len(spare)}; lower data.candidates or data.decoys."
        )
    models = {rows: number for number, rows in enumerate(dict.fromkeys(of))}
    drawn = [
        np.random.default_rng((seed, number)).choice(spare, count, replace=False)
        for number in models.values()
    ]
    first = {rows: len(files) + count * number for rows, number in models.items()}
    return Exemplars(
        files,
        tuple(np.concatenate(drawn).tolist()),
        (*prompts, *(prompts[rows[0]] for rows in models for _ in range(count))),
        tuple((*rows, *range(first[rows], first[rows] + count)) for rows in of),
    )


def _without_token(prompt: TaskPrompt) -> TaskPrompt:
    """The empty prompt where nothing else is said."""
    try:
        return TaskPrompt(without_tokens(prompt.text), prompt.learned)
    except UsageError:
        return TaskPrompt("")


def spare_rows(candidates: Sequence[int] | np.ndarray, total: int) -> np.ndarray:
    """Of so many rows those that are no candidates, ascending."""
    return np.setdiff1d(np.arange(total), candidates)
