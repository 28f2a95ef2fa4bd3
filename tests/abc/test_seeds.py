"""PyTorch's normal numbers by seed."""

from pathlib import Path

import numpy as np
import pytest

from ctrak_jax.abc.seeds import noise_of, require_noise, seed_of
from ctrak_jax.errors import UsageError

RANDN = [
    *(-1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920, -0.3160, -2.1152),
    *(0.3223, -1.2633, 0.3500, 0.3081, 0.1198, 1.2377, 1.1168, -0.2473),
]
"""torch.manual_seed(0); torch.randn(4, 4), as PyTorch's documentation prints numbers."""


def test_numbers_are_those_of_pytorch():
    np.testing.assert_allclose(noise_of(0, (1, 1, 16)).ravel(), RANDN, atol=6e-5)


def test_channels_come_first_in_the_generator():
    found = noise_of(0, (2, 2, 4))
    np.testing.assert_allclose(found.transpose(2, 0, 1).ravel(), RANDN, atol=6e-5)


def test_numbers_are_normal_and_change_with_the_seed():
    first, second = (noise_of(seed, (64, 64, 4)) for seed in (3, 4))
    assert first.dtype == np.float32
    assert abs(first.mean()) < 0.03
    assert abs(first.std() - 1) < 0.03
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_seeds_are_the_numbers_of_the_files():
    assert seed_of(Path("synth/gpt/monet/samples/00172.png")) == 172
    with pytest.raises(UsageError, match=r"cat\.png: the name is no number"):
        seed_of(Path("samples/cat.png"))


def test_seeds_end_at_two_to_the_32():
    assert seed_of(Path("0004294967295.png")) == 2**32 - 1
    assert noise_of(2**32 - 1, (1, 1, 16)).shape == (1, 1, 16)
    for name in ("4294967296", "00004294967296", "9" * 5000):
        with pytest.raises(UsageError, match=rf"a/{name}\.png: {name} is no seed below 2\^32; use"):
            seed_of(Path(f"a/{name}.png"))


def test_numbers_are_multiples_of_16():
    require_noise((2, 2, 4), "use less")
    with pytest.raises(UsageError, match=r"has 36 numbers, .* multiples of 16; use less\.$"):
        require_noise((3, 3, 4), "use less")
    with pytest.raises(ValueError, match="no multiple of 16"):
        noise_of(0, (1, 1, 8))
