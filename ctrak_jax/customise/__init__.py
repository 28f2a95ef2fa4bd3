"""Textual inversion of many concepts, written in AbC's own layout: what `ctrak abc` reads.

A concept's token and its generated pictures are each made again where their inputs have changed,
and skipped where not. The list of tasks names the concepts that are finished.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors.numpy import save

from ctrak_jax.abc.seeds import SEEDS, require_noise
from ctrak_jax.config import Config, dump
from ctrak_jax.config.recipes import grid_of
from ctrak_jax.customise import layout
from ctrak_jax.customise.candidates import (
    are_there,
    key_of,
    open_candidates,
    write_candidates,
)
from ctrak_jax.customise.concepts import NewConcept, read_concepts
from ctrak_jax.customise.layout import ConceptFiles
from ctrak_jax.customise.training import Illustrator, TokenTrainer
from ctrak_jax.data import Dataset
from ctrak_jax.data.abc.squares import squares
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.log import deadline, logger, meter, stage
from ctrak_jax.models import Denoiser
from ctrak_jax.models.architecture import Architecture, architecture_of, model_files_of
from ctrak_jax.models.stable_diffusion import ModelFiles, load_network, text_tokenizer
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings
from ctrak_jax.models.stable_diffusion.textual_inversion import add_tokens, pieces_of, token_of
from ctrak_jax.precision import policy_of
from ctrak_jax.progress import Meter, Overall, tracked
from ctrak_jax.run.keys import published_key, settings_of
from ctrak_jax.run.model_file import parameter_sha256
from ctrak_jax.store.files import plain, require_writable, write_atomically

__all__ = ["Customised", "run"]

SIDE_BY_SIDE = 8
"""Pictures encoded, generated and decoded at once."""


class Customised(NamedTuple):
    """A concept in the folder, and the loss of the same batches before and after its training."""

    concept: NewConcept
    before: float
    after: float


def run(config: Config, out: Path) -> list[Customised]:
    """Customise the model of a config to its concepts, and write ``out``.

    Raises:
        UsageError: there is no model or no concept, or a concept cannot be trained on the model.
        OutOfTime: the command's time is up; finished concepts are kept.
    """
    files = _base(config)
    concepts = read_concepts(config.customise)
    _require_tokens(files, concepts, config.customise.vectors)
    layout.refuse_others(out)
    work = _Workshop(config, files, out)
    exemplars = {concept: _Pictures(concept, work.side) for concept in concepts}
    others = work.candidates()
    require_writable(out)
    write_atomically(out / "customise.json", json.dumps(work.about, indent=1) + "\n")
    for concept, found in exemplars.items():
        ConceptFiles(out, concept).copy_exemplars(found.contents)
    layout.write_entries(out, concepts, work.seeds)
    todo = {c: work.missing(c, exemplars[c]) for c in concepts}
    done = [concept for concept in concepts if not todo[concept]]
    layout.write_tasks(out, concepts, work.seeds, done)
    stages = ("customise",) if others is None else ("candidates", "customise")
    with tracked(out, "customise", Overall(stages)) as overall:
        if others is not None:
            overall.begin("candidates")
            write_candidates(out, others.data, work.encoder, others.key)
            deadline.check()
        overall.begin("customise")
        if len(done) < len(concepts):
            _complete(work, exemplars, todo)
    write_atomically(out / "customise.yaml", dump(config))
    return [work.told(concept) for concept in concepts]


def _complete(
    work: "_Workshop",
    exemplars: Mapping[NewConcept, "_Pictures"],
    todo: Mapping[NewConcept, tuple[str, ...]],
) -> None:
    """Make what is missing of every concept; the list of tasks grows by each."""
    concepts, steps = list(todo), work.config.customise.steps
    total = {
        "step": sum("token" in parts for parts in todo.values()) * steps,
        "picture": sum("pictures" in parts for parts in todo.values()) * len(work.seeds),
    }
    done = {concept for concept in concepts if not todo[concept]}
    with (
        stage(work.out, "customise", work.mesh.size) as record,
        meter("customise", total) as bar,
    ):
        for concept in [c for c in concepts if todo[c]]:
            if record.samples:
                deadline.check()
            work.complete(concept, exemplars[concept], todo[concept], bar)
            done.add(concept)
            finished = [c for c in concepts if c in done]
            layout.write_tasks(work.out, concepts, work.seeds, finished)
            record.samples += 1


def _base(config: Config) -> ModelFiles:
    """The files of the model that is customised."""
    model = config.model
    if model.kind != "text-to-image" or model.checkpoint is None:
        raise UsageError(
            "customise trains tokens on a text-to-image model.checkpoint, there is none; give a "
            "Stable Diffusion, or the model of an earlier run: --model.kind text-to-image "
            "--model.checkpoint runs/text-to-image/model."
        )
    files = model_files_of(model, model.checkpoint)
    files.require_stable_diffusion()
    return files


def _require_tokens(files: ModelFiles, concepts: Sequence[NewConcept], vectors: int) -> None:
    """Refuse what the text encoder's vocabulary stands against, before anything is read."""
    tokenize = text_tokenizer(files)
    for concept in concepts:
        try:
            token_of(tokenize, concept.initial)
        except UsageError as error:
            raise UsageError(f"concept {concept.name!r}: {error}") from None
        for piece in pieces_of(concept.token, vectors):
            if piece in tokenize.vocabulary:
                raise UsageError(
                    f"concept {concept.name!r}: token {piece!r} exists already; give the new one "
                    "another name, such as '<cat-toy>'."
                )


class _Pictures:
    """A concept's pictures: the files' bytes, and the pixels that the model is given."""

    def __init__(self, concept: NewConcept, side: int) -> None:
        """Read and decode them all: an unreadable one is found before anything is computed."""
        self.contents = [file.read_bytes() for file in concept.pictures]
        self.images = squares(concept.pictures, side)

    @property
    def hashes(self) -> list[str]:
        return [hashlib.sha256(content).hexdigest() for content in self.contents]


class _Candidates(NamedTuple):
    """A data set that is to become the candidates' files, and what these depend on."""

    data: Dataset
    key: dict[str, Any]


class _Workshop:
    """Makes what a concept's folders hold."""

    def __init__(self, config: Config, files: ModelFiles, out: Path) -> None:
        self.config, self._files, self.out = config, files, out
        self._settings = settings = config.customise
        self.mesh = local_mesh(config.run.devices)
        if settings.batch % self.mesh.size:
            raise UsageError(
                f"customise.batch={settings.batch} must be a multiple of the {self.mesh.size} "
                "devices."
            )
        self.seeds = range(settings.first_seed, settings.first_seed + settings.images)
        if self.seeds and self.seeds[-1] >= SEEDS:
            raise UsageError(
                f"customise.first_seed={settings.first_seed}: {self.seeds[-1]}, that of the last "
                "picture, is no seed below 2^32; lower it."
            )
        if self.seeds:
            require_noise(self._architecture.sample, "use customise.images: 0")
        self.encoder = BatchEncoder(files, self.mesh, SIDE_BY_SIDE)

    @cached_property
    def side(self) -> int:
        """Of a picture, in pixels."""
        return self._architecture.sample[0] * self.encoder.codecs.image.network.shrink

    @cached_property
    def _model(self) -> dict[str, Any]:
        """What the model is: a key's part."""
        text, image = self.encoder.codecs
        parts = {"unet": self._denoiser.params, "text": text.params, "vae": image.params}
        hashes = {name: parameter_sha256(params) for name, params in parts.items()}
        return {**published_key(self.config), **hashes}

    @property
    def about(self) -> dict[str, Any]:
        """What the folder says of itself."""
        return {
            "written_by": "ctrak customise",
            "model": plain(self._model),
            "settings": self.config.customise.model_dump(mode="json"),
        }

    def candidates(self) -> "_Candidates | None":
        """The data set whose rows are to be written, if any."""
        path = self._settings.candidates
        if path is None:
            return None
        data = open_candidates(path, self.side)
        key = key_of(data, self._model)
        return None if are_there(self.out, key) else _Candidates(data, key)

    def missing(self, concept: NewConcept, exemplars: _Pictures) -> tuple[str, ...]:
        """What of a concept is to be made: its token, its pictures, both or nothing."""
        files, key = ConceptFiles(self.out, concept), self._token_key(concept, exemplars)
        record = _record(files.record)
        there = [files.embedding, *(files.picture(seed) for seed in self.seeds)]
        fresh = record.get("made_from") == key and _sha256(there[0]) == record.get("sha256")
        if record and not fresh:
            changed = [k for k in key if record.get("made_from", {}).get(k) != key[k]]
            reason = f"other inputs ({', '.join(changed)})" if changed else "a file since changed"
            logger.info("concept %s was made from %s: it is made again", concept.name, reason)
        if not fresh:
            return "token", "pictures"
        pictures = _record(files.pictures_record)
        key = self._pictures_key(concept, record["sha256"])
        return (
            ()
            if pictures.get("made_from") == key and all(file.is_file() for file in there)
            else ("pictures",)
        )

    def complete(
        self, concept: NewConcept, exemplars: _Pictures, parts: Sequence[str], bar: Meter
    ) -> None:
        """Make what is missing of a concept; its record comes last."""
        files = ConceptFiles(self.out, concept)
        if "token" in parts:
            files.record.unlink(missing_ok=True)
            latents = self.encoder.encode(exemplars.images)
            found = self._trainer.train(concept, latents, partial(bar.advance, kind="step"))
            content = save({concept.token: found.rows})
            write_atomically(files.embedding, content)
            said = {
                "made_from": self._token_key(concept, exemplars),
                "sha256": hashlib.sha256(content).hexdigest(),
                "loss": {"before": found.before, "after": found.after},
            }
            write_atomically(files.record, json.dumps(said, indent=1) + "\n")
            logger.info("%s: loss %.4f -> %.4f", concept.name, found.before, found.after)
        self._draw(concept, files, bar)

    def told(self, concept: NewConcept) -> Customised:
        """What there is to say of a finished concept."""
        loss = _record(ConceptFiles(self.out, concept).record)["loss"]
        return Customised(concept, loss["before"], loss["after"])

    def _draw(self, concept: NewConcept, files: ConceptFiles, bar: Meter) -> None:
        shutil.rmtree(files.pictures_record.parent, ignore_errors=True)
        if not self.seeds:
            images = np.zeros((0, self.side, self.side, 3), np.uint8)
        else:
            text = add_tokens(self.encoder.codecs.text, load_embeddings(files.embedding))
            prompts = [layout.prompt_of(concept, n) for n in range(len(self.seeds))]
            images = self._illustrator.draw(text, prompts, self.seeds)
        for seed, image in zip(self.seeds, images, strict=True):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            write_atomically(files.picture(seed), content.getvalue())
        key = self._pictures_key(concept, _sha256(files.embedding))
        write_atomically(files.pictures_record, json.dumps({"made_from": key}, indent=1) + "\n")
        bar.advance(len(self.seeds), "picture")

    def _token_key(self, concept: NewConcept, exemplars: _Pictures) -> dict[str, Any]:
        """What a token's vectors depend on."""
        found = {
            **self._model,
            **settings_of(self.config, "customised token"),
            **{name: getattr(concept, name) for name in ("name", "token", "initial")},
            "train_prompt": concept.train_prompt,
            "pictures": exemplars.hashes,
        }
        return plain(found)

    def _pictures_key(self, concept: NewConcept, embedding: str | None) -> dict[str, Any]:
        """What the generated pictures depend on."""
        found = {
            **self._model,
            **settings_of(self.config, "customised pictures"),
            "embedding": embedding,
            "prompts": concept.prompts,
        }
        return plain(found)

    @cached_property
    def _architecture(self) -> Architecture:
        config = self.config
        return architecture_of(
            config.model,
            config.schedule,
            files=self._files,
            image_shape=(0, 0, 3),
            condition_size=0,
            precision=policy_of(config.run.precision),
        )

    @cached_property
    def _denoiser(self) -> Denoiser:
        architecture = self._architecture
        params = load_network(self._files, architecture.compute).params
        return architecture.denoiser(params, self.mesh)

    @cached_property
    def _trainer(self) -> TokenTrainer:
        where = self.encoder.codecs.text, self._architecture.schedule
        return TokenTrainer(self._denoiser, *where, self._settings, self.mesh)

    @cached_property
    def _illustrator(self) -> Illustrator:
        architecture, config = self._architecture, self.config
        height, width, channels = architecture.sample
        schedule = architecture.schedule
        return Illustrator(
            self._denoiser,
            self.encoder,
            schedule,
            grid_of(config, schedule),
            config.query.sampling_guidance,
            (height, width, channels),
            self.mesh,
            min(SIDE_BY_SIDE, len(self.seeds)),
        )


def _record(file: Path) -> Mapping[str, Any]:
    """A record, or an empty one where it is missing or damaged: what it is of is made again."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
