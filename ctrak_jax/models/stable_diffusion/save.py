"""Writing a model as a folder in diffusers' format, Flax weights.

Parts can be written one after another: a part's ``config.json`` comes after its weights, and
:func:`save_index` last of all, so that a model with a ``model_index.json`` is whole.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax.serialization import msgpack_serialize

from ctrak_jax.models.checkpoints import FileNames
from ctrak_jax.models.stable_diffusion.noise import PREDICTIONS, Noise, read_noise
from ctrak_jax.models.tokenizers.files import written_files
from ctrak_jax.models.tokenizers.vocabulary import END, START, Vocabulary
from ctrak_jax.schedule import Prediction
from ctrak_jax.store.files import write_atomically
from ctrak_jax.typing import Params

BETAS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled-linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
"""The schedules of :mod:`ctrak_jax.schedule`."""


def save_part(folder: Path, config: Mapping[str, Any], params: Params, names: FileNames) -> None:
    """Write one part: its weights (float32) and, after them, its config."""
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(params))
    write_atomically(folder / names.flax, msgpack_serialize(plain))
    _write_json(folder / "config.json", config)


def save_tokenizer(folder: Path, vocabulary: Vocabulary, length: int) -> None:
    """Write the files of CLIP's tokenizer for texts of at most ``length`` tokens."""
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    about = {"model_max_length": length, "errors": "replace"}
    files = written_files(vocabulary.numbers, list(vocabulary.merges), about | special)
    for name, content in sorted(files.items()):
        write_atomically(folder / name, content)


def save_noise(
    folder: Path,
    kind: Literal["linear", "scaled-linear", "cosine"],
    steps: int,
    prediction: Prediction,
) -> Noise:
    """Write ``scheduler_config.json`` for the noise a model is trained on: DDIM's, which it is
    sampled with here. What is read back from it is what to train on."""
    names = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    config = {
        "_class_name": "DDIMScheduler",
        **BETAS[kind],
        "clip_sample": False,
        "num_train_timesteps": steps,
        "prediction_type": names[prediction],
        "set_alpha_to_one": False,
        "steps_offset": 0,
    }
    _write_json(folder / "scheduler_config.json", config)
    return read_noise(folder)


def save_flow(folder: Path, shift: float, steps: int) -> None:
    """Write ``scheduler_config.json`` for the levels of a rectified flow."""
    config = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": steps,
        "shift": shift,
    }
    _write_json(folder / "scheduler_config.json", config)


def save_flow_index(folder: Path) -> None:
    """Write ``model_index.json`` of a model with a small transformer of image and text: it is
    whole. No pipeline of diffusers has one text encoder alone, so the name is the library's."""
    _write_json(folder / "model_index.json", {"_class_name": "SmallFlowPipeline"})


def save_index(folder: Path) -> None:
    """Write ``model_index.json``: the model in ``folder`` is whole."""
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "FlaxStableDiffusionPipeline",
            "feature_extractor": [None, None],
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "FlaxDDIMScheduler"],
            "text_encoder": ["transformers", "FlaxCLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "FlaxUNet2DConditionModel"],
            "vae": ["diffusers", "FlaxAutoencoderKL"],
        },
    )


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_atomically(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
