"""The average answer of several models, against NumPy's of scores that were planted."""

import numpy as np

from ctrak_jax import config as cfg
from ctrak_jax import pipeline
from ctrak_jax.run.tops import read_tops
from ctrak_jax.run.variants import MAIN, unnamed
from ctrak_jax.stages import ensemble
from ctrak_jax.store import read_scores, write_scores
from tests.stages.test_lds import CONFIG, plant


def test_it_is_the_mean_of_standardised_scores_whatever_their_scale(tmp_path):
    settings = CONFIG.model_dump() | {
        "run": {"seeds": [0, 1], "devices": 1},
        "methods": ("d-trak",),
    }
    contexts = pipeline.prepare(cfg.Config.model_validate(settings), tmp_path)
    rng, variants = np.random.default_rng(0), (MAIN, *unnamed(contexts[0].config))
    given: dict[str, list[np.ndarray]] = {part.folder: [] for part in variants}
    for ctx, scale in zip(contexts, (1.0, 1000.0), strict=True):
        plant(ctx)
        for part in variants:
            shape = (len(ctx.questions(part)), len(ctx.dataset.train_index))
            scores = rng.normal(5, scale, shape).astype(np.float32)
            write_scores(ctx.folder.part(part.folder).scores("d-trak"), scores)
            given[part.folder].append(scores)
    ensemble.run(tmp_path, contexts)
    found = ensemble.context_of(tmp_path, contexts)
    for part in variants:
        both = np.stack(given[part.folder])
        expected = ((both - both.mean(-1, keepdims=True)) / both.std(-1, keepdims=True)).mean(0)
        folder = found.folder.part(part.folder)
        np.testing.assert_allclose(read_scores(folder.scores("d-trak")), expected, atol=1e-4)
        best = found.dataset.train_index[np.argsort(-expected, axis=1)]
        tops = read_tops(folder.top("d-trak"))
        for question, order in zip(found.questions(part), best, strict=True):
            assert [hit.index for hit in tops[question.key]] == order.tolist()
