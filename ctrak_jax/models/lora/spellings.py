"""The names that tools give the tensors of a LoRA: which layer, and which of its matrices.

=================================================  ===========================
tensor                                             written by
=================================================  ===========================
unet.<module>.lora_A.weight, .lora_B               diffusers
transformer.<module>.lora_A.weight, .lora_B        diffusers
unet.<module>.lora.down.weight, .lora.up           diffusers
unet.<attention>.processor.to_q_lora.down.weight   diffusers in 2023
text_encoder.<module>.lora_linear_layer.down...    diffusers
base_model.model.<module>.lora_A.weight            peft
lora_unet_<module with _ for .>.lora_down.weight   kohya, with <module>.alpha
lora_transformer_<the same>.lora_down.weight       kohya's form, with <module>.alpha
=================================================  ===========================

One file may mix them, so every name is read by itself.
"""

import re
from typing import Literal, NamedTuple

from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models.checkpoints.spelling import plain
from ctrak_jax.typing import Params

Role = Literal["down", "up", "alpha"]
Net = Literal["unet", "text"]
"""The denoiser, a UNet or a transformer, and the text encoder."""

MATRICES = re.compile(
    r"(?P<module>.+?)"
    r"(?:\.lora_(?P<letter>[AB])(?:\.[\w-]+)?|\.lora_(?P<kohya>down|up)"
    r"|(?:\.lora|_lora|\.lora_linear_layer)\.(?P<way>down|up))\.weight"
)
ALPHA = re.compile(r"(?P<module>.+?)\.alpha")
PREFIXES: tuple[tuple[str, Net | None], ...] = (
    ("lora_unet_", "unet"),
    ("lora_transformer_", "unet"),
    ("lora_te1_", "text"),
    ("lora_te_", "text"),
    ("unet.", "unet"),
    ("transformer.", "unet"),
    ("text_encoder.", "text"),
    ("base_model.model.", None),
)
OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "oft_": "OFT",
    "boft_": "BOFT",
    "lora_mid": "a LoRA with a third matrix (Tucker)",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "vera_lambda": "VeRA",
    "ia3_": "IA3",
    "on_input": "IA3",
    "lora_embedding_": "a LoRA of embeddings",
    "bundle_emb": "a LoRA with textual inversions in it",
    ".diff": "a difference of whole weights",
    "lora_te2_": "a LoRA of a second text encoder",
    "text_encoder_2.": "a LoRA of a second text encoder",
    "lora_te3_": "a LoRA of a third text encoder",
    "double_blocks": "a LoRA of FLUX.1 under the names of its first code",
    "single_blocks": "a LoRA of FLUX.1 under the names of its first code",
    "joint_blocks": "a LoRA of Stable Diffusion 3 under the names of its first code",
    ".bias": "a LoRA with biases",
}
"""Signs in a name of what is no pair of matrices."""


class Spelled(NamedTuple):
    """What a name says: the network, where it does; the module, whose dots may be underscores;
    and which of the layer's tensors it is."""

    net: Net | None
    module: str
    role: Role


def spelled(name: str) -> Spelled | None:
    """Read a tensor's name; None where it is none of a LoRA's."""
    found, role = MATRICES.fullmatch(name), "alpha"
    if found:
        down = found["letter"] == "A" or "down" in (found["kohya"], found["way"])
        role = "down" if down else "up"
    else:
        found = ALPHA.fullmatch(name)
    if found is None:
        return None
    net, module = None, found["module"]
    for prefix, said in PREFIXES:
        if module.startswith(prefix):
            net, module = said or net, module.removeprefix(prefix)
    return Spelled(net, _older(module), role)


def _older(module: str) -> str:
    """``<attention>.processor.to_q`` is the layer ``<attention>.to_q``."""
    module = module.replace(".processor.", ".")
    return re.sub(r"\.to_out$", ".to_out.0", module)


def other_kind(name: str) -> str | None:
    """What a name that :func:`spelled` cannot place is known to be."""
    return next((what for sign, what in OTHER_KINDS.items() if sign in name), None)


class NetworkLayers:
    """The layers with kernels of a network, by any spelling of their names."""

    def __init__(self, params: Params, net: Net) -> None:
        """
        Args:
            params: or their shapes.
            net: which network's.
        """
        paths = [path for path in parameter_paths(params) if path.endswith("/kernel")]
        layers = [path.removesuffix("/kernel") for path in paths]
        self._net: Net = net
        self._dotted = {plain(layer.replace("/", ".")): layer for layer in layers}
        self._joined = {layer.replace("/", "_"): layer for layer in layers}

    def find(self, module: str) -> str | None:
        """The path of a layer; None where there is none of this name."""
        names = [module, f"text_model.{module}"] if self._net == "text" else [module]
        if self._net == "text":  # as diffusers wrote them in 2023
            query = re.sub(r"\.to_([qkv])$", r".\1_proj", module)
            names.append(re.sub(r"\.to_out\.0$", ".out_proj", query))
        for name in names:
            found = self._dotted.get(plain(name)) or self._joined.get(name.replace(".", "_"))
            if found:
                return found
        return None
