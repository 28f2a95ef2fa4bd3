"""Selections by name: what they mean in a network."""

import numpy as np
import pytest

from ctrak_jax.gradient import expanded, select

LEAF = np.zeros((2, 3), np.float32)


def network(*layers: str):
    return {"blocks_0": {part: {layer: {"kernel": LEAF} for layer in layers} for part in PARTS}}


PARTS = ("attn", "attn2")
JOINT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
OWN = ("to_q", "to_k", "to_v", "to_out_0")


def test_cross_attention_of_a_unet_is_attn2():
    found = select(network(*OWN), ("cross-attention",))
    assert sorted(found.params) == sorted(f"blocks_0/attn2/{layer}/kernel" for layer in OWN)
    assert found.size == 4 * 6
    assert select(network(*OWN), ("*attn2*",)).params.keys() == found.params.keys()


def test_cross_attention_of_joint_attention_is_its_text_side_and_never_attn2():
    found = select(network(*JOINT, *OWN), ("cross-attention",))
    assert sorted(found.params) == sorted(f"blocks_0/attn/{layer}/kernel" for layer in JOINT)


def test_names_and_patterns_are_taken_together_and_left_out():
    params = network(*OWN)
    every = select(params, ("cross-attention", "*to_q*"), ("*to_v*",)).params
    assert len(every) == 4
    left = select(params, exclude=("cross-attention",)).params
    assert all("/attn/" in path for path in left)
    assert expanded(("*a*", "cross-attention"), ["x/attn2/y"]) == ["*a*", "*/attn2/*"]


def test_a_network_without_it_is_one_line():
    with pytest.raises(
        ValueError, match="'cross-attention' matches none of 1 parameters"
    ) as raised:
        select({"block": {"kernel": LEAF}}, ("cross-attention",))
    assert "\n" not in str(raised.value)
