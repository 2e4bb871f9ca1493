"""TPU slices that need not be here: devices to compile for."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from jaxiqa.errors import ConfigError
from jaxiqa.training.chips import CHIPS, Chip

EXAMPLES = "v5e:4x4, v5e:16x16, v6e:8x8, v5p:4x4x4 or v4:2x2x4"

# libtpu wants to know where it runs, asks a metadata server that is not there, and locks the chips that it does not
# need. Nothing here names the slice that is compiled for.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_STDERR_LOG_LEVEL": "3",
}


def slice_devices(name: str) -> tuple[Chip, list[jax.Device]]:
    """The chip and the devices, one for each chip, of a slice, e.g. "v5e:16x16"; arrays cannot be put on them.

    This process must not have used any device before, and runs on the CPU from then on.

    Raises:
      ConfigError: no such slice, or no TPU compiler.
    """
    generation, _, layout = name.partition(":")
    sides = [int(side) for side in layout.split("x")] if re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", layout) else []
    if generation not in CHIPS or len(sides) != CHIPS[generation].axes:
        raise ConfigError(f'--topology: there is no slice "{name}"; write for instance {EXAMPLES}')
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError('there is no TPU compiler here; install the extra tpu: pip install "jaxiqa[tpu]"')
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")
    hosts = {"chips_per_host_bounds": (*(min(side, 2) for side in sides[:2]), 1)}
    cores = {"chip_config_name": "megacore"} if generation == "v4" else {}  # its two cores as one device
    try:
        return CHIPS[generation], topologies.get_topology_desc(name, "tpu", **hosts, **cores).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--topology {name}: {reason}; write for instance {EXAMPLES}") from error
