"""Compilation for devices that need not be present, and the memory and operations that a program needs."""

import re
import time
from collections.abc import Callable

import jax

from jaxiqa.errors import ConfigError

# "Used 20.32G of 15.75G hbm", "the total memory required for ... (800.00G) exceeds available HBM (15.75G)"
_NO_ROOM = re.compile(
    r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm|\(([\d.]+)([KMGT])\) exceeds available \w+ \(([\d.]+)([KMGT])\)"
)
_UNITS = dict(K=2**10, M=2**20, G=2**30, T=2**40)


class DoesNotFit(ConfigError):
    """The compiler refused a program that needs more memory than a chip has: `needed` bytes."""

    def __init__(self, needed: float, available: float):
        super().__init__(
            f"it does not fit: {needed / 2**30:.2f} GiB needed, {available / 2**30:.2f} GiB available on a chip; use "
            "a smaller batch, or a larger config.accumulate or config.mesh.fsdp",
            code="memory",
            key="config.batch_size",
        )
        self.needed = needed


def compile_ahead(jitted, *arguments) -> tuple[jax.stages.Compiled, float]:
    """Compile a jitted function for the devices in the shardings of its arguments, trees of jax.ShapeDtypeStruct.

    Returns (compiled function, seconds of compilation).

    Raises:
      DoesNotFit: the memory of a chip is too small.
    """
    began = time.monotonic()
    try:
        return jitted.lower(*arguments).compile(), time.monotonic() - began
    except jax.errors.JaxRuntimeError as error:
        if not (found := _NO_ROOM.search(str(error))):
            raise
        needed, unit, available, other = (group for group in found.groups() if group)
        raise DoesNotFit(float(needed) * _UNITS[unit], float(available) * _UNITS[other]) from error


def largest_that_fits(fits: Callable[[int], bool], start: int, unit: int = 1) -> int:
    """The largest multiple of `unit` for which fits() is true, or one at most an eighth smaller. `unit` must fit.

    The search doubles or halves from `start`, then bisects the remaining interval.
    """
    low = high = max(unit, start // unit * unit)
    if fits(low):
        while fits(high := 2 * low):
            low = high
    else:
        while low > unit and not fits(low := max(unit, low // 2 // unit * unit)):
            high = low
    while high - low > max(unit, low // 8):
        middle = (low + high) // 2 // unit * unit
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def sweep(compiled: Callable[[int], dict], start: int, unit: int) -> dict:
    """The result of compiled(batch per chip) for the largest_that_fits(). Prints a line for each batch size it tries.

    Raises:
      DoesNotFit: the smallest batch does not fit.
    """
    fitting = {}

    def fits(per_chip: int) -> bool:
        try:
            fitting[per_chip] = found = compiled(per_chip)
        except DoesNotFit as error:
            if per_chip == unit:
                raise
            print(f"{per_chip} per chip: {error.needed / 2**30:.2f} GiB, does not fit", flush=True)
            return False
        used, seconds = found["memory"]["used"] / 2**30, found["compile_seconds"]
        print(f"{per_chip} per chip: {used:.2f} GiB, fits (compiled in {seconds:.0f} s)", flush=True)
        return True

    return fitting[largest_that_fits(fits, start, unit)]


def describe(compiled: jax.stages.Compiled, available: int, parts: int = 1) -> dict:
    """Memory and operations of one step of a compiled program, per chip.

    XLA counts the operations of a loop only once, such as those of the distortions in pretraining.

    Args:
      compiled: from compile_ahead.
      available: bytes of memory of a chip.
      parts: iterations of the loop of gradient accumulation, which contains nearly all operations of a step.

    Returns:
      {"memory": bytes by name, "donated": share of the outputs that reuse the memory of an argument, "flops":
      operations}.
    """
    stats = compiled.memory_analysis()
    memory = {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
    }
    memory["used"] = sum(memory.values()) - 2 * memory["aliased"]  # aliased bytes are in arguments and outputs
    memory["available"] = available
    return {
        "memory": memory,
        "donated": memory["aliased"] / memory["outputs"],
        "flops": parts * float(compiled.cost_analysis()["flops"]),
    }
