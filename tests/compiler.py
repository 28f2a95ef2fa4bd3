"""How XLA compiles in the tests."""

from importlib.metadata import version

QUICK = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
"""Most of what the tests take is compiling: the machine code need not be fast."""
if tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):
    # The older emitters, which later versions have not, compile in a third of the time.
    QUICK.append("--xla_cpu_use_fusion_emitters=false")


def xla_flags(devices: int) -> str:
    """``XLA_FLAGS`` for a number of CPU devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *QUICK])
