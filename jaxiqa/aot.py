"""Compile a run's step for a TPU slice that is not here, on any computer: does it fit, and how fast can it be at most?

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

Printed are the memory that a chip needs, the share of the state that is donated, operations, bytes, what the chips send
one another, and the ceiling in images/s that the chip's peaks allow: no run is faster, and it says nothing of how near
a run comes.

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

import jaxiqa
from jaxiqa import program
from jaxiqa.errors import ConfigError
from jaxiqa.inputs.contrastive import make_views, region_side
from jaxiqa.inputs.transferred import distorting, make_crops
from jaxiqa.inputs.transforms import images_of
from jaxiqa.inputs.whole import HEIGHT, WIDTH
from jaxiqa.models import create_model, model_to_train
from jaxiqa.models.contrastive import Contrastive
from jaxiqa.scoring.predict import jit_scores
from jaxiqa.training import ahead, optim, sharding
from jaxiqa.training.checkpoint import abstract
from jaxiqa.training.contrastive import make_pretrain_step
from jaxiqa.training.durations import to_steps
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.nonfinite import skipping
from jaxiqa.training.state import make_init
from jaxiqa.training.step import jit_step, make_train_step
from jaxiqa.training.topology import EXAMPLES, parse_slice, slice_devices
from jaxiqa.training.values import check_values

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config of a run, e.g. configs/glintiqa_kadid10k.py[:paper].")
_TOPOLOGY = flags.DEFINE_string("topology", None, f"TPU slice: {EXAMPLES}.")
_MESH = flags.DEFINE_string("mesh", None, "data=N,fsdp=M in place of config.mesh.")
_SCORING = flags.DEFINE_bool("scoring", False, "Compile the step that scores in place of the one that trains.")
_SWEEP = flags.DEFINE_enum("sweep", None, ("batch",), "Find the largest batch per chip that fits.")
_OUTPUT = flags.DEFINE_string("output", None, "File to write: FILE.json.")

# Pictures of a nominal training part: durations in epochs need one, and the schedule is compiled into a step.
PICTURES = 1_000_000


def training_step(config: ConfigDict, mesh) -> tuple:
    """The jitted step of jaxiqa.train, and the shapes and shardings of its arguments."""
    model = model_to_train(config)
    frozen = (*config.frozen, *getattr(model, "frozen", ()))
    schedule, tx = _optimiser(config, config.batch_size)
    init = make_init(model, model.crop_size, tx, frozen, with_ema=config.ema > 0)
    shapes = jax.eval_shape(init, jax.random.key(0), {})
    optim.freeze_report(shapes.params, frozen)  # refuses patterns that match nothing
    loss, images = parse_loss(config.loss), images_of(model)
    step = make_train_step(model, tx, schedule, loss, frozen, images, config.accumulate, config.ema)
    step = skipping(step, config.skip_nonfinite, config.optimizer.grad_skip_norm)
    columns, size = {"label": jnp.float32, "index": jnp.int32}, (model.crop_size, model.crop_size)
    if config.dataset.name == "saqt":  # whole pictures, which the step distorts and crops
        cells = [(type_, level) for type_ in config.dataset.types for level in range(1, 6)]
        step, size = distorting(step, make_crops(cells, model.crop_size, mesh)), (HEIGHT, WIDTH)
        columns |= {"type": jnp.int32, "level": jnp.int32, "corner": (jnp.int32, 2), "mirror": (jnp.bool_, 2)}
    state_sharding = sharding.state_sharding(shapes, mesh)
    batch = _batch(mesh, config.batch_size, size, **columns)
    return jit_step(step, state_sharding, mesh), abstract(shapes, state_sharding), batch, _key(mesh)


def pretraining_step(config: ConfigDict, mesh) -> tuple:
    """The jitted step of jaxiqa.pretrain, and the shapes and shardings of its arguments."""
    encoder = create_model(**config.model, num_classes=0, dtype=jnp.dtype(config.dtype))
    model = Contrastive(encoder, **config.projector)
    instance = config.label_mode == "instance"
    drawn = config.batch_size // 2 if instance else config.batch_size
    schedule, tx = _optimiser(config, drawn)
    shapes = jax.eval_shape(make_init(model, encoder.crop_size, tx, ()), jax.random.key(0), {})
    views = make_views(encoder, instance, mesh)
    step = make_pretrain_step(model, tx, schedule, config.temperature, views)
    step = skipping(step, config.skip_nonfinite, config.optimizer.grad_skip_norm)
    state_sharding = sharding.state_sharding(shapes, mesh)
    side = region_side(encoder.crop_size, instance)
    batch = _batch(mesh, drawn, (side, side), type=jnp.int32, level=jnp.int32, label=jnp.int32)
    return jit_step(step, state_sharding, mesh), abstract(shapes, state_sharding), batch, _key(mesh)


def scoring_step(config: ConfigDict, mesh) -> tuple:
    """The jitted function that scores crops, and the shapes and shardings of its arguments."""
    model = model_to_train(config)
    images = jnp.zeros((1, model.crop_size, model.crop_size, 3))
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    shardings = jax.tree.map(lambda _: sharding.replicated(mesh), shapes)
    crops = _batch(mesh, config.eval_batch_size, (model.crop_size, model.crop_size))["image"]
    return jit_scores(model), abstract(shapes, shardings), crops


def _optimiser(config: ConfigDict, batch_size: int) -> tuple:
    steps = functools.partial(to_steps, batch_size=batch_size, examples=PICTURES)
    schedule = optim.schedule_of(config, steps(config.total, "total", least=1), steps)
    return schedule, optim.make_optimizer(config.optimizer, schedule)


def _batch(mesh, size: int, sides: tuple[int, int], **columns) -> dict:
    """A batch of images; a column is a dtype, or (dtype, values of one image)."""
    shapes, where = {"image": ((*sides, 3), jnp.uint8)}, sharding.batch_sharding(mesh)
    for name, column in columns.items():
        dtype, *shape = column if isinstance(column, tuple) else (column,)
        shapes[name] = (tuple(shape), dtype)
    return {n: jax.ShapeDtypeStruct((size, *shape), dtype, sharding=where) for n, (shape, dtype) in shapes.items()}


def _key(mesh) -> jax.ShapeDtypeStruct:
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))


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
    build = scoring_step if _SCORING.value else pretraining_step if contrastive else training_step

    def compiled(per_chip: int) -> dict:
        config[key] = per_chip * chips
        program_, seconds = ahead.compile_ahead(*build(config, mesh))
        parts = 1 if _SCORING.value else config.get("accumulate", 1)
        found = ahead.describe(program_, chip, chips, config[key], parts)
        return found | {"batch_per_chip": per_chip, "batch": config[key], "compile_seconds": round(seconds, 1)}

    start = config[key] // chips
    found = ahead.sweep(compiled, start, unit) if _SWEEP.value else compiled(start)
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
        "jaxiqa": jaxiqa.__version__,
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
    times = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in report["bounds"].items())
    print(
        f"{report['model']} {report['variant']}, {report['dtype']}: {report['step']} step of {report['batch']:,} "
        f"images, {report['batch_per_chip']} on each of {report['chips']} chips\n"
        f"{report['topology']}, mesh {report['mesh']['data']} x {report['mesh']['fsdp']} (data x fsdp), jax "
        f"{report['jax']}, libtpu {report['libtpu']}: compiled in {report['compile_seconds']:.0f} s, not run\n"
        f"memory of a chip   {gib['used']:.3g} of {gib['available']:.4g} GiB ({gib['used'] / gib['available']:.0%}): "
        f"arguments {gib['arguments']:.3g}, outputs {gib['outputs']:.3g}, of them in place of arguments "
        f"{gib['aliased']:.3g}, temporaries {gib['temporaries']:.3g}, code {gib['code']:.3g}\n"
        f"donated            {report['donated']:.4f} of what the step returns takes the place of an argument\n"
        f"operations         {report['flops'] / 1e12:.4g} TFLOP on a chip\n"
        f"memory traffic     {report['bytes_moved'] / 1e9:.4g} GB on a chip, {report['intensity']:.1f} operations a "
        f"byte (XLA's bytes accessed: {report['bytes_accessed'] / 1e9:.4g} GB)\n"
        f"collectives        {report['bytes_sent'] / 1e6:,.1f} MB sent by a chip"
    )
    for row in report["collectives"]:
        print(
            f"  {row['kind']:20} over {row['group']:4} chips {row['count']:6} times, {row['bytes'] / 1e6:9.2f} MB of "
            f"arrays, {row['sent'] / 1e6:9.2f} MB sent"
        )
    print(
        f"ceiling            {report['images_per_second']:,.0f} images/s, {report['bound_by']} the bound ({times})\n"
        "                   computed from the chip's peaks: compiled, not run"
    )


if __name__ == "__main__":
    program.run(main)
