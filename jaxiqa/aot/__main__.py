"""Compile a step for TPUs without having them: does it fit?

  jaxiqa aot --config glintiqa_kadid10k --topology v5e:4x4 --config.batch_size=512
  jaxiqa aot --config mfen_kadid10k --topology v5e:16x16 --config.batch_size=16384 \\
      --config.eval_batch_size=256 --mesh data=64,fsdp=4 --output report.json
  jaxiqa aot --config mfen_kadid10k --topology v5e:4x4 --config.batch_size=256 --sweep batch

The program needs the TPU compiler (pip install -c constraints.txt -e ".[tpu]"). It needs no TPU, no images and no
weights. It compiles the step of `jaxiqa train`, or for a config of `jaxiqa pretrain` the step of that program, with the
same shardings and buffer donation. This takes minutes.

--topology  a slice: v4:AxBxC, v5e:AxB, v5p:AxBxC or v6e:AxB, e.g. v5e:16x16
--mesh      sets config.mesh.data and config.mesh.fsdp, e.g. data=64,fsdp=4
--scoring   compiles the step that scores config.eval_batch_size crops, instead of the training step
--sweep     "batch" compiles several times and finds the largest batch per chip that fits, to within an eighth
--output    FILE.json to write: all that is printed

The program prints the memory that a chip needs, the share of the state that is donated, and the operations of a step.

Exit codes: 0 done, 2 usage or config, or there is no TPU compiler, or the step does not fit, 75 disk full.
"""

import functools
import importlib.metadata
import math
import re
from typing import TYPE_CHECKING

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from jaxiqa import program, shared_flags
from jaxiqa.aot.topology import EXAMPLES, parse_slice, slice_devices
from jaxiqa.config import check
from jaxiqa.errors import ConfigError
from jaxiqa.files import json_text
from jaxiqa.version import __version__

if TYPE_CHECKING:
    from jaxiqa.training.loop import Task

_FLAGS = flags.FlagValues()
_CONFIG = shared_flags.config(_FLAGS)
_TOPOLOGY = flags.DEFINE_string("topology", None, f"TPU slice to compile for, e.g. {EXAMPLES}.", flag_values=_FLAGS)
_MESH = flags.DEFINE_string(
    "mesh", None, "Device mesh, instead of config.mesh, e.g. data=64,fsdp=4.", flag_values=_FLAGS
)
_SCORING = flags.DEFINE_bool(
    "scoring", False, "Compile the scoring step instead of the training step.", flag_values=_FLAGS
)
_SWEEP = flags.DEFINE_enum(
    "sweep", None, ("batch",), "Find the largest value that fits; batch: the batch per chip.", flag_values=_FLAGS
)
_OUTPUT = shared_flags.output_file(_FLAGS, ".json")

# Assumed number of training images. The step contains the schedule, whose durations in epochs depend on this number.
EXAMPLES_OF_A_RUN = 1_000_000


def training_step(config: ConfigDict, mesh) -> tuple:
    """The jitted training step, and the shapes and shardings of its arguments."""
    from jaxiqa.training.loop import abstract_arguments, make_plan

    task = task_of(config, mesh)
    plan = make_plan(task, EXAMPLES_OF_A_RUN)
    return plan.step, *abstract_arguments(task, plan)


def scoring_step(config: ConfigDict, mesh) -> tuple:
    """The jitted function that scores crops, and the shapes and shardings of its arguments."""
    import jax
    import jax.numpy as jnp

    from jaxiqa.models import scales_of
    from jaxiqa.scoring.predict import jit_scores
    from jaxiqa.training import sharding

    model = task_of(config, mesh).model
    side, where = model.crop_size, sharding.replicated(mesh)
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, side, side, 3))
    )
    rows = sharding.batch_sharding(mesh)
    height = len(scales_of(model)) * side
    crops = jax.ShapeDtypeStruct((config.eval_batch_size, height, side, 3), jnp.uint8, sharding=rows)
    return jit_scores(model), sharding.abstract(variables, jax.tree.map(lambda _: where, variables)), crops


def task_of(config: ConfigDict, mesh) -> "Task":
    """The task that jaxiqa train or jaxiqa pretrain runs with this config."""
    from jaxiqa.tasks.contrastive import Pretraining
    from jaxiqa.tasks.quality import Quality

    return (Pretraining if "projector" in config else Quality)(config, mesh)


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG)
    if not _TOPOLOGY.value:
        raise ConfigError(f"--topology is missing; name a TPU slice: {EXAMPLES}", code="missing", key="--topology")
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None

    import jax

    from jaxiqa.aot.compile import compile_ahead, describe, sweep
    from jaxiqa.training import sharding

    check(config)
    contrastive = "projector" in config
    if contrastive and _SCORING.value:
        raise ConfigError(
            "--scoring: a config of jaxiqa pretrain has no scoring step; give a config of jaxiqa train",
            code="conflict",
            key="--scoring",
        )
    if _MESH.value is not None:
        config.mesh.update(parse_mesh(_MESH.value))
    chip, sides = parse_slice(_TOPOLOGY.value)
    chips = math.prod(sides)
    instance = contrastive and config.label_mode == "instance"
    parts = 1 if _SCORING.value else config.get("accumulate", 1)
    crops = 1 if _SCORING.value else config.get("crops_per_image", 1)
    unit = 2 if instance else math.lcm(parts, crops)
    key = "eval_batch_size" if _SCORING.value else "batch_size"
    if config[key] < 1 or config[key] % (unit * chips):
        near = -(-max(1, config[key]) // (unit * chips)) * unit * chips
        raise ConfigError(
            f"config.{key}={config[key]} must be a multiple of {unit * chips}; use {near}",
            code="value",
            key=f"config.{key}",
        )
    mesh = sharding.make_mesh(**config.mesh, devices=slice_devices(_TOPOLOGY.value))
    build = scoring_step if _SCORING.value else training_step

    def compiled(per_chip: int) -> dict:
        config[key] = per_chip * chips
        compiled_step, seconds = compile_ahead(*build(config, mesh))
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
        with program.writes_output(output):
            output.write_text(json_text(about | found, 1) + "\n")


def parse_mesh(text: str) -> dict[str, int]:
    """Parses "data=64,fsdp=4" to {"data": 64, "fsdp": 4}. -1 means all remaining devices.

    Raises:
      ConfigError: the text has another form.
    """
    if not re.fullmatch(r"(data|fsdp)=(-1|\d+)(,(?!\1)(data|fsdp)=(-1|\d+))?", text):
        raise ConfigError(f'--mesh "{text}" must be written as data=64,fsdp=4', code="value", key="--mesh")
    return {"data": -1, "fsdp": 1} | {axis: int(size) for axis, size in (pair.split("=") for pair in text.split(","))}


def show(report: dict) -> None:
    """Prints the report."""
    gib = {name: size / 2**30 for name, size in report["memory"].items()}
    print(
        f"{report['model']} {report['variant']}, {report['dtype']}: {report['step']} step of {report['batch']:,} "
        f"images, {report['batch_per_chip']} on each of {report['chips']} chips\n"
        f"{report['topology']}, mesh {report['mesh']['data']} x {report['mesh']['fsdp']} (data x fsdp), jax "
        f"{report['jax']}, libtpu {report['libtpu']}: compiled in {report['compile_seconds']:.0f} s, not run\n"
        f"memory per chip    {gib['used']:.3g} of {gib['available']:.4g} GiB ({gib['used'] / gib['available']:.0%}): "
        f"arguments {gib['arguments']:.3g}, outputs {gib['outputs']:.3g} (in place of arguments "
        f"{gib['aliased']:.3g}), temporaries {gib['temporaries']:.3g}, code {gib['code']:.3g}\n"
        f"donated            {report['donated']:.4f} of the outputs of the step are in place of arguments\n"
        f"operations         {report['flops'] / 1e12:.4g} TFLOP per chip"
    )


if __name__ == "__main__":
    program.run(main, _FLAGS)
