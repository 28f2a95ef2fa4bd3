"""What a LoRA's product is multiplied with: alpha / r, wherever a file has its alpha.

kohya has a tensor ``<layer>.alpha``, 0 or none for alpha = r; peft an ``adapter_config.json``;
diffusers from version 0.34 the same settings in the file's metadata, before that nothing: then the
factor is 1 whatever the training used.
"""

import json
import re
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.errors import UsageError
from ctrak_jax.models.lora.spellings import Net

METADATA = "lora_adapter_metadata"
SECTIONS: Mapping[str, Net] = {"unet.": "unet", "transformer.": "unet", "text_encoder.": "text"}
UNKNOWN_SETTINGS = ("use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora")
PATTERN_OF_LAYERS = re.compile(r"\^?(?:[\w\-]|\\?\.(?!\*)){1,200}\$?")
"""Names of modules, with the marks of a regular expression that peft puts around some."""


class Ranks(NamedTuple):
    """The settings of peft: r and alpha, and those of single layers by patterns of their names."""

    file: Path
    rank: int | None
    alpha: float | None
    rank_pattern: Mapping[str, Any]
    alpha_pattern: Mapping[str, Any]
    by_root: bool

    def factor(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt r (rslora), of a layer whose matrices have this rank.

        Raises:
            UsageError: the settings say another rank.
        """
        said = self._of(self.rank_pattern, module, self.rank)
        if said is not None and said != rank:
            raise UsageError(
                f"{self.file}: the rank of {module} is {said!r}, its matrices have {rank}; use the "
                "settings and the weights of one LoRA."
            )
        alpha = self._of(self.alpha_pattern, module, self.alpha)
        return 1.0 if alpha is None else float(alpha) / (sqrt(rank) if self.by_root else rank)

    def _of(self, patterns: Mapping[str, Any], module: str, default: Any) -> Any:
        for pattern, value in patterns.items():
            name = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
            whole = pattern.startswith("^")
            if module == name or (not whole and module.endswith(f".{name}")):
                return value
        return default


def ranks_of(file: Path, settings: Mapping[str, Any]) -> Ranks:
    """Peft's settings.

    Raises:
        UsageError: they are those of another kind of adapter.
    """
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        raise UsageError(f"{file}: peft_type is {kind!r}, expected 'LORA'; use a LoRA.")
    odd = [name for name in UNKNOWN_SETTINGS if settings.get(name)]
    if odd:
        raise UsageError(
            f"{file}: {odd[0]} is {settings[odd[0]]!r}, which is not supported; use a plain LoRA, "
            "or merge it into the model's weights."
        )
    patterns = [settings.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    for pattern in (name for each in patterns for name in each):
        if not PATTERN_OF_LAYERS.fullmatch(pattern):
            raise UsageError(
                f"{file}: the pattern {pattern!r} is no name of a module; write each layer's name."
            )
    alpha, rank = settings.get("lora_alpha"), settings.get("r")
    by_root = bool(settings.get("use_rslora"))
    return Ranks(file, rank, alpha, patterns[0], patterns[1], by_root)


def ranks_in(file: Path, metadata: Mapping[str, str]) -> dict[Net, Ranks]:
    """The settings that diffusers writes into a file's metadata, by network."""
    if METADATA not in metadata:
        return {}
    try:
        settings = json.loads(metadata[METADATA])
        pairs = list(settings.items())
    except (ValueError, AttributeError, RecursionError):
        raise UsageError(f"{file}: its {METADATA} is no JSON object; fetch it again.") from None
    found: dict[Net, Ranks] = {}
    for section, net in SECTIONS.items():
        own = {key.removeprefix(section): value for key, value in pairs if key.startswith(section)}
        if own:
            found[net] = ranks_of(file, own)
    return found
