"""How XLA compiles in the tests."""

QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",  # the older emitters take a third of the time
)
"""Most of what the tests take is compiling: the machine code need not be fast."""


def xla_flags(devices: int) -> str:
    """``XLA_FLAGS`` for a number of CPU devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *QUICK])
