"""Programs compiled for devices that need not be here: what they need."""

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
    """The compiler refused a program that needs more memory than a chip has.

    Attributes:
      needed, available: bytes of one chip.
    """

    def __init__(self, needed: float, available: float):
        super().__init__(
            f"it does not fit: {needed / 2**30:.2f} GiB needed, {available / 2**30:.2f} GiB available on a chip; take "
            "a smaller batch, or a larger config.accumulate or config.mesh.fsdp"
        )
        self.needed, self.available = needed, available


def compile_ahead(jitted, *arguments) -> tuple[jax.stages.Compiled, float]:
    """A jitted function compiled for the devices that its arguments' shardings name, and the seconds it took.

    Args:
      jitted: from jax.jit.
      *arguments: trees of jax.ShapeDtypeStruct with shardings.

    Raises:
      DoesNotFit: a chip's memory is too small.
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
    """The largest multiple of `unit` for which fits() is true, or one at most an eighth smaller; `unit` must fit.

    It doubles or halves from `start`, then halves the interval that is left.
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
    """What compiled(batch per chip) gives for the largest_that_fits(), with a line for each that is tried.

    Raises:
      DoesNotFit: not even the smallest does.
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
    """What one step of a compiled program needs of each chip.

    XLA counts the operations of a loop once (so those of pretraining's distortions).

    Args:
      compiled: from compile_ahead.
      available: bytes of a chip's memory.
      parts: that the step goes through in a loop (gradient accumulation), which is nearly all of it.

    Returns:
      {"memory": bytes by name, "donated": share of what the program returns that takes the place of an argument,
      "flops": operations}.
    """
    stats = compiled.memory_analysis()
    memory = {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
    }
    memory["used"] = sum(memory.values()) - 2 * memory["aliased"]  # an output in an argument's place is in both
    memory["available"] = available
    return {
        "memory": memory,
        "donated": memory["aliased"] / memory["outputs"],
        "flops": parts * float(compiled.cost_analysis()["flops"]),
    }
