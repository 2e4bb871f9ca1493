"""Compile a run's step for a TPU slice that is not here, on any computer: does it fit?

  python -m jaxiqa.aot --config configs/glintiqa_kadid10k.py --topology v5e:4x4 --config.batch_size=512
  python -m jaxiqa.aot --config configs/mfen_kadid10k.py --topology v5e:16x16 --config.batch_size=16384 \\
      --config.eval_batch_size=256 --mesh data=64,fsdp=4 --output report.json
  python -m jaxiqa.aot --config configs/mfen_kadid10k.py --topology v5e:4x4 --config.batch_size=256 --sweep batch

It takes the TPU's own compiler, pip install -c constraints.txt -e ".[tpu]", and no TPU, no pictures and no weights.
What is compiled is the step of jaxiqa.train, or of jaxiqa.pretrain for its configs, with the same shardings and
donation. It takes minutes.

--topology  a slice: v4:AxBxC, v5e:AxB, v5p:AxBxC or v6e:AxB, e.g. v5e:16x16
--mesh      the same as --config.mesh.data and --config.mesh.fsdp, e.g. data=64,fsdp=4
--scoring   the step that scores crops, config.eval_batch_size of them, instead of the one that trains
--sweep     "batch": finds the largest batch per chip that fits, to an eighth, by compiling several
--output    FILE.json with all that is printed

Printed are the memory that a chip needs, the share of the state that is donated, and the operations of a step.

Exit codes: 0 done, 2 usage, config or no TPU compiler, or it does not fit, 75 disk full.
"""

import functools
import importlib.metadata
import json
import math
import re

import jax
import jax.numpy as jnp
from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from jaxiqa import program
from jaxiqa.aot.compile import compile_ahead, describe, sweep
from jaxiqa.aot.topology import EXAMPLES, parse_slice, slice_devices
from jaxiqa.errors import ConfigError
from jaxiqa.scoring.predict import jit_scores
from jaxiqa.tasks.contrastive import Pretraining
from jaxiqa.tasks.quality import Quality
from jaxiqa.tasks.values import check_values
from jaxiqa.training import sharding
from jaxiqa.training.loop import Task, abstract_arguments, make_plan
from jaxiqa.version import __version__

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config of a run, e.g. configs/glintiqa_kadid10k.py[:paper].")
_TOPOLOGY = flags.DEFINE_string("topology", None, f"TPU slice: {EXAMPLES}.")
_MESH = flags.DEFINE_string("mesh", None, "data=N,fsdp=M in place of config.mesh.")
_SCORING = flags.DEFINE_bool("scoring", False, "Compile the step that scores in place of the one that trains.")
_SWEEP = flags.DEFINE_enum("sweep", None, ("batch",), "Find the largest batch per chip that fits.")
_OUTPUT = flags.DEFINE_string("output", None, "File to write: FILE.json.")

EXAMPLES_OF_A_RUN = 1_000_000  # images that train: durations in epochs need them, and the schedule is part of a step


def training_step(config: ConfigDict, mesh) -> tuple:
    """The jitted step of a run, and the shapes and shardings of its arguments."""
    task = task_of(config, mesh)
    plan = make_plan(task, EXAMPLES_OF_A_RUN)
    return plan.step, *abstract_arguments(task, plan)


def scoring_step(config: ConfigDict, mesh) -> tuple:
    """The jitted function that scores crops, and the shapes and shardings of its arguments."""
    model = task_of(config, mesh).model
    side, where = model.crop_size, sharding.replicated(mesh)
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, side, side, 3))
    )
    rows = sharding.batch_sharding(mesh)
    crops = jax.ShapeDtypeStruct((config.eval_batch_size, side, side, 3), jnp.uint8, sharding=rows)
    return jit_scores(model), sharding.abstract(variables, jax.tree.map(lambda _: where, variables)), crops


def task_of(config: ConfigDict, mesh) -> Task:
    """What jaxiqa.train or jaxiqa.pretrain runs with this config."""
    return (Pretraining if "projector" in config else Quality)(config, mesh)


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG, "train", "pretrain")
    if not _TOPOLOGY.value:
        raise ConfigError(f"--topology is missing; name a TPU slice: {EXAMPLES}")
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    if output and output.suffix != ".json":
        raise ConfigError(f"--output {output} must end in .json")
    check_values(config)
    contrastive = "projector" in config
    if contrastive and _SCORING.value:
        raise ConfigError("--scoring: a pretraining run scores nothing; give the config of a training run")
    if _MESH.value is not None:
        config.mesh.update(parse_mesh(_MESH.value))
    chip, sides = parse_slice(_TOPOLOGY.value)
    chips = math.prod(sides)
    instance = contrastive and config.label_mode == "instance"
    unit = 2 if instance else 1 if _SCORING.value else config.get("accumulate", 1)
    key = "eval_batch_size" if _SCORING.value else "batch_size"
    if config[key] < 1 or config[key] % (unit * chips):
        near = -(-max(1, config[key]) // (unit * chips)) * unit * chips
        raise ConfigError(f"config.{key}={config[key]} must be a multiple of {unit * chips}; take {near}")
    mesh = sharding.make_mesh(**config.mesh, devices=slice_devices(_TOPOLOGY.value))
    build = scoring_step if _SCORING.value else training_step

    def compiled(per_chip: int) -> dict:
        config[key] = per_chip * chips
        compiled_step, seconds = compile_ahead(*build(config, mesh))
        parts = 1 if _SCORING.value else config.get("accumulate", 1)
        found = describe(compiled_step, chip.hbm, parts)
        return found | {"batch_per_chip": per_chip, "batch": config[key], "compile_seconds": round(seconds, 1)}

    start = config[key] // chips
    found = sweep(compiled, start, unit) if _SWEEP.value else compiled(start)
    about = {
        "what": "compiled, not run",
        "step": "scoring" if _SCORING.value else "pretraining" if contrastive else "training",
        "model": config.model.name,
        "variant": config.model.variant,
        "dtype": config.dtype,
        "accumulate": config.get("accumulate", 1),
        "topology": _TOPOLOGY.value,
        "chips": chips,
        "mesh": dict(mesh.shape),
        "jaxiqa": __version__,
        "jax": jax.__version__,
        "libtpu": importlib.metadata.version("libtpu"),
    }
    show(about | found)
    if output:
        try:
            output.write_text(json.dumps(about | found, indent=1) + "\n")
        except OSError as error:
            raise ConfigError(f"--output {output} cannot be written ({error.strerror}); name another file") from error


def parse_mesh(text: str) -> dict[str, int]:
    """{"data": 64, "fsdp": 4} of "data=64,fsdp=4"; -1 takes what is left.

    Raises:
      ConfigError: it is no such thing.
    """
    if not re.fullmatch(r"(data|fsdp)=(-1|\d+)(,(?!\1)(data|fsdp)=(-1|\d+))?", text):
        raise ConfigError(f'--mesh "{text}" must be written as data=64,fsdp=4')
    return {"data": -1, "fsdp": 1} | {axis: int(size) for axis, size in (pair.split("=") for pair in text.split(","))}


def show(report: dict) -> None:
    """The report for people."""
    gib = {name: size / 2**30 for name, size in report["memory"].items()}
    print(
        f"{report['model']} {report['variant']}, {report['dtype']}: {report['step']} step of {report['batch']:,} "
        f"images, {report['batch_per_chip']} on each of {report['chips']} chips\n"
        f"{report['topology']}, mesh {report['mesh']['data']} x {report['mesh']['fsdp']} (data x fsdp), jax "
        f"{report['jax']}, libtpu {report['libtpu']}: compiled in {report['compile_seconds']:.0f} s, not run\n"
        f"memory of a chip   {gib['used']:.3g} of {gib['available']:.4g} GiB ({gib['used'] / gib['available']:.0%}): "
        f"arguments {gib['arguments']:.3g}, outputs {gib['outputs']:.3g}, of them in place of arguments "
        f"{gib['aliased']:.3g}, temporaries {gib['temporaries']:.3g}, code {gib['code']:.3g}\n"
        f"donated            {report['donated']:.4f} of what the step returns takes the place of an argument\n"
        f"operations         {report['flops'] / 1e12:.4g} TFLOP on a chip"
    )


if __name__ == "__main__":
    program.run(main)
