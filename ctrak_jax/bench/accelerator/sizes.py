"""What is measured, chosen by the device: the sizes of the paper and of Stable Diffusion on an
accelerator, small ones on a CPU."""

from typing import NamedTuple


class Costs(NamedTuple):
    """About how many seconds a measurement takes, compiling included, on an otherwise idle machine.

    Attributes:
        rate: one of the machine's.
        reference: a projection beside the matrix.
        gradient: one beside float64.
        comparison_dit: features beside more exact ones, which are computed too.
        comparison_unet: the same of the UNet.
        dense: a speed of a dense projection.
        sparse: one of another kind.
        plan: of a program, which is compiled for it.
        dit: a speed of the diffusion transformer's features.
        unet: the UNet's.
        devices: the same on several devices and on one.
        torch_projection: a peer's speed of a projection.
        torch_dit: of features.
        torch_unet: of the UNet's.
    """

    rate: float
    reference: float
    gradient: float
    comparison_dit: float
    comparison_unet: float
    dense: float
    sparse: float
    plan: float
    dit: float
    unet: float
    devices: float
    torch_projection: float
    torch_dit: float
    torch_unet: float


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
        costs: how long each measurement is expected to take.
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
    costs: Costs


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
    costs=Costs(
        rate=2,
        reference=20,
        gradient=40,
        comparison_dit=60,
        comparison_unet=60,
        dense=25,
        sparse=8,
        plan=60,
        dit=60,
        unet=150,
        devices=60,
        torch_projection=15,
        torch_dit=30,
        torch_unet=90,
    ),
)
"""Nine timesteps of 50 steps; d of the attention to captions of Stable Diffusion 1.4 and of the
paper's network."""
SMALL = AcceleratorSizes(
    side=1024,
    repeats=1,
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
    batches_unet=(1,),
    unet="least",
    compared="least",
    costs=Costs(
        rate=0.5,
        reference=1,
        gradient=4,
        comparison_dit=7,
        comparison_unet=20,
        dense=1.2,
        sparse=0.5,
        plan=6,
        dit=5.5,
        unet=14,
        devices=10,
        torch_projection=3,
        torch_dit=1.5,
        torch_unet=5,
    ),
)
TINY = SMALL._replace(
    side=64, reference=(200, 32, 2), d=(300,), k=32, batches=(2,), batches_dit=(2,)
)
"""For tests."""
BY_NAME = {"full": FULL, "small": SMALL, "tiny": TINY}


def size_name(platform: str) -> str:
    """The sizes for a backend."""
    return "small" if platform == "cpu" else "full"
