"""Writing an explained answer, for the commands that give one."""

import argparse
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

STEM = 200
"""Bytes of a page's name before its digest; file systems take 255 with the suffixes."""


def page_of(args: argparse.Namespace, ctx: Any, concept: str | None) -> Path:
    """Where the page of a question goes."""
    return ctx.folder.root / "explanations" / f"{name_of(args, ctx, [concept])}.html"


def name_of(args: argparse.Namespace, ctx: Any, concepts: Sequence[str | None]) -> str:
    """A file name of everything that makes it another question, cut, with a digest of all of
    it."""
    from ctrak_jax.report.contact import file_name

    query, about = getattr(args, "query", None), [concept or "" for concept in concepts]
    if args.prompt is not None:
        image = args.image.stem if args.image else f"image-{args.image_seed or 0}"
        parts = [args.prompt, image, *about, *(f"minus-{prompt}" for prompt in args.minus)]
    elif query:
        parts = [query, *about]
    else:
        parts = [args.image.stem, args.condition, *about]
    parts += [f"mask-{args.mask.stem}"] if args.mask else []
    parts += [args.reward] if args.reward else []
    parts += ["global"] if getattr(args, "scope", None) == "global" else []
    parts += [args.method] + ([f"seed-{ctx.seed}"] if args.seed is not None else [])
    damping = ctx.config.score.damping
    if hasattr(args, "score.damping") and len(damping) == 1:  # of several it is the chosen one
        parts.append(f"r-{damping[0]:g}")
    stem = file_name("-".join(part for part in parts if part)).encode()[:STEM]
    digest = sha256("\n".join([*parts, str(args.image), str(args.mask)]).encode()).hexdigest()[:8]
    return f"{stem.decode(errors='ignore')}-{digest}"


def about(args: argparse.Namespace, how: Any) -> str:
    """Which question it is, and how it was answered."""
    query = getattr(args, "query", None)
    if args.prompt is not None:
        asked = f"prompt {args.prompt!r}"
    elif query is not None:
        asked = f"query {query}"
    else:
        asked = f"image {args.image.name}"
        asked += f" of {args.condition}" if args.condition else ""
    parts = [asked, f"mask {args.mask.name}"] if args.mask else [asked]
    parts += [f"reward {args.reward}"] if args.reward else []
    parts.append(f"damping r = {how.damping:g}")
    if how.variant.without:
        parts.append(f"the candidates' conditions do not name the {how.variant.without}")
    return "; ".join(parts) + "."


def said(ctx: Any, found: Any) -> list[str]:
    """What is known of the training images of an explanation, in words."""
    raw = ctx.dataset.raw
    values = dict(zip(ctx.dataset.train_index.tolist(), ctx.dataset.train_values, strict=True))
    return [
        raw.prompts[index] if raw.prompts else ", ".join(map(str, values[index].values()))
        for index in found.index.tolist()
    ]


def write(ctx: Any, page: Path, found: Any, picture: Any, text: str) -> Sequence[Path]:
    """Write an explanation as a page, a sheet of pictures and arrays; the files."""
    from ctrak_jax.report.explanation import Shown, write_explained
    from ctrak_jax.report.explanation.arrays import write_explanation

    images = [ctx.dataset.raw.images[index] for index in found.index.tolist()]
    written = write_explained(page, found, Shown(picture, images, said(ctx, found), text))
    write_explanation(page.with_suffix(".npz"), found)
    return [*written, page.with_suffix(".npz")]
