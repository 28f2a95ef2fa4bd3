"""What is measured, chosen by the device: the sizes of the paper and of Stable Diffusion on an
accelerator, small ones on a CPU."""

from typing import NamedTuple


class AcceleratorSizes(NamedTuple):
    """What is measured.

    Attributes:
        side: of the square matrices whose product is the machine's rate.
        repeats: timed calls.
        reference: d, k and samples of the projections beside the written-out matrix.
        d: of the timed projections.
        k: of these and of features.
        batches: samples per call there.
        cut: dense projections in plain JAX take d / cut rows, and count as so many times slower.
        network: size of the diffusion transformer.
        pixels: side of its images.
        steps: of trajectories.
        every: steps between two recorded states.
        samples: of a comparison of features.
        batches_dit: batches that are tried, the most telling first.
        batches_unet: the UNet's.
        unet: ``sd14``, ``small`` or ``least``.
        compared: the UNet whose features are compared.
        slow: what the estimates of seconds are multiplied with.
    """

    side: int
    repeats: int
    reference: tuple[int, int, int]
    d: tuple[int, ...]
    k: int
    batches: tuple[int, ...]
    cut: int
    network: str
    pixels: int
    steps: int
    every: int
    samples: int
    batches_dit: tuple[int, ...]
    batches_unet: tuple[int, ...]
    unet: str
    compared: str
    slow: float


FULL = AcceleratorSizes(
    side=8192,
    repeats=3,
    reference=(2**20, 128, 8),
    d=(43_956_480, 29_300_000),
    k=32_768,
    batches=(8, 32),
    cut=8,
    network="paper",
    pixels=64,
    steps=50,
    every=5,
    samples=4,
    batches_dit=(64, 128, 256, 16),
    batches_unet=(4, 8, 16, 32),
    unet="sd14",
    compared="small",
    slow=1.0,
)
"""Nine timesteps of 50 steps; d of the attention to captions of Stable Diffusion 1.4 and of the
paper's network."""
SMALL = AcceleratorSizes(
    side=1024,
    repeats=2,
    reference=(2**13, 128, 4),
    d=(2**17,),
    k=1024,
    batches=(2, 4),
    cut=1,
    network="least",
    pixels=8,
    steps=20,
    every=5,
    samples=2,
    batches_dit=(4, 8),
    batches_unet=(1, 2),
    unet="least",
    compared="least",
    slow=0.4,
)
TINY = SMALL._replace(
    side=64, repeats=1, reference=(200, 32, 2), d=(300,), k=32, batches=(2,), batches_dit=(2,)
)
"""For tests."""
BY_NAME = {"full": FULL, "small": SMALL, "tiny": TINY}


def size_name(platform: str) -> str:
    """The sizes for a backend."""
    return "small" if platform == "cpu" else "full"
