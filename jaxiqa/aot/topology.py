"""TPU slices that need not be present, as devices to compile for."""

import importlib.util
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from jaxiqa.errors import ConfigError

if TYPE_CHECKING:
    import jax


class Chip(NamedTuple):
    """One chip: bytes of memory that the compiler gives to a program, and the number of axes of a slice layout."""

    hbm: int
    axes: int


GIB = 2**30
CHIPS = {  # memory: as libtpu 0.0.42 reports it when a program does not fit; the chip has a little more
    "v4": Chip(int(30.75 * GIB), 3),
    "v5e": Chip(int(15.75 * GIB), 2),
    "v5p": Chip(int(95.74 * GIB), 3),
    "v6e": Chip(int(31.25 * GIB), 2),
}

EXAMPLES = "v5e:4x4, v5e:16x16, v6e:8x8, v5p:4x4x4 or v4:2x2x4"

# Without these variables, libtpu asks a metadata server, which does not exist here, and locks chips, which compilation
# does not need. They do not name the slice that is compiled for.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_STDERR_LOG_LEVEL": "3",
}


def parse_slice(name: str) -> tuple[Chip, tuple[int, ...]]:
    """The chip and the layout, e.g. (16, 16), of a slice "v5e:16x16".

    Raises:
      ConfigError: it is not the name of a slice.
    """
    generation, _, layout = name.partition(":")
    sides = tuple(map(int, layout.split("x"))) if re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", layout) else ()
    if generation not in CHIPS or len(sides) != CHIPS[generation].axes:
        raise ConfigError(
            f'--topology: there is no slice "{name}"; write, for example, {EXAMPLES}', code="unknown", key="--topology"
        )
    return CHIPS[generation], sides


def slice_devices(name: str) -> list["jax.Device"]:
    """The devices of a slice, one for each chip. Programs can be compiled for them, but arrays cannot be put on them.

    Call it before this process computes anything. The process then runs on the CPU, without a compile cache.

    Raises:
      ConfigError: there is no such slice, or the TPU compiler is not installed.
    """
    import jax
    from jax.experimental import topologies

    _, sides = parse_slice(name)
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            'the TPU compiler is not installed; run python -m pip install -c constraints.txt -e ".[tpu]"',
            code="package",
            key="libtpu",
        )
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # JAX cannot read back such programs
    hosts = {"chips_per_host_bounds": (*(min(side, 2) for side in sides[:2]), 1)}
    cores = {"chip_config_name": "megacore"} if name.startswith("v4") else {}  # two cores as one device
    try:
        return topologies.get_topology_desc(topology_name=name, platform="tpu", **hosts, **cores).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--topology {name}: {reason}; write, for example, {EXAMPLES}", code="value", key="--topology"
        ) from error
