"""Speed of the forward pass of a model, its share of the ceiling, its agreement with the CPU, and its PyTorch twin."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.benchmarks import measure
from jaxiqa.benchmarks.twin import MODES, Twin
from jaxiqa.models import create_model, find_model
from jaxiqa.runs import compile_cache

AGREES = 1e-4  # largest relative difference of fp32 outputs from those on the CPU, as in the goldens
_TWIN_FRONT = "PyTorch, "


def variant_of(name: str, tiny: bool) -> str:
    """The variant that is measured: the default one of a name, or the small one of its tests."""
    variants = find_model(name).VARIANTS
    return "test" if tiny else name if name in variants else next(iter(variants))


def random_variables(model) -> dict:
    """Random variables of a model, on the host, as plausible as trained ones: layers keep the size of what they get."""
    one = jnp.zeros((1, model.crop_size, model.crop_size, 3))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, shape = path[-1].key, leaf.shape
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        fan_in = max(1, np.prod(shape[:-1])) if name == "kernel" else 400
        return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), one))


def random_images(model, batch: int) -> np.ndarray:
    """Normalised images of noise, float32 (batch, crop_size, crop_size, 3)."""
    return np.random.default_rng(1).standard_normal((batch, model.crop_size, model.crop_size, 3)).astype(np.float32)


def outputs_of(model, variables, images):
    """The scores (B,) of a system, or the logits of a backbone, in fp32."""
    return model.apply(variables, images, train=False)[0].astype(jnp.float32)


def twin_calls(process: Twin | None, tiny: bool, front: str = "") -> dict:
    """{row: call} of the modes of a twin that work; says why others do not. `tiny` leaves out those that compile."""
    calls = {}
    for mode in (MODES[:2] if tiny else MODES) if process else ():
        if why := process.works(front + mode):
            print(f"  {_TWIN_FRONT}{mode} does not work here: {why}")
        else:
            calls[f"{_TWIN_FRONT}{mode}"] = functools.partial(process.step, front + mode)
    return calls


def best_twin(times: dict[str, measure.Times]) -> dict[str, float]:
    """{"twin_ratio": least seconds of the twin's best mode over the best of ours}; {} without a twin."""
    theirs = [found.least for case, found in times.items() if case.startswith(_TWIN_FRONT)]
    ours = [found.least for case, found in times.items() if not case.startswith(_TWIN_FRONT)]
    return {"twin_ratio": min(theirs) / min(ours)} if theirs else {}


def add_times(ledger: measure.Ledger, times: dict, flops: dict[str, float], batch: int, tiny: bool) -> None:
    """Records {case: Times} of a batch, with the share of the ceiling of those in `flops`, whose cases are types."""
    for case, one in times.items():
        shares = {}
        if case in flops:
            ceiling = measure.ceilings(jnp.dtype(case), tiny)
            shares = {"of_ceiling": ceiling.seconds(flops[case]) / one.least}
        ledger.add(case, one, images_per_s=batch / one.least, **shares)


def run(
    model: str = "glintiqa",
    batch_size: int | None = None,
    tiny: bool = False,
    twin: bool = False,
    torch_python: str | None = None,
    output: str | None = None,
    compare: str | None = None,
) -> int:
    """Prints the table; returns 1 if the outputs on this device differ from those on the CPU.

    Args:
      model: name of a system or a backbone.
      batch_size: crops in a batch; default: 8 on a CPU, 128 elsewhere.
      tiny: whether to only try that it runs, with small models and sizes.
      twin, torch_python: whether to measure PyTorch too, and its interpreter.
      output, compare: as for measure.Ledger.
    """
    compile_cache.enable()
    ledger = measure.Ledger(f"forward {model}", output, compare)
    on_cpu = jax.default_backend() == "cpu"
    batch = batch_size or (2 if tiny else 8 if on_cpu else 128)
    variant = variant_of(model, tiny)
    nets = {dtype.__name__: create_model(model, variant, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16)}
    net = nets["float32"]
    host, images = random_variables(net), random_images(net, batch)
    expected = _on_cpu(net, host, images[:2])
    found = in_full_precision(net, host, images[:2])
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    ledger.add("difference from the CPU, fp32", relative=difference)
    variables, images_D = jax.device_put((host, images))
    calls, flops = {}, {}
    for case, one in nets.items():
        forward = jax.jit(functools.partial(outputs_of, one)).lower(variables, images_D).compile()
        calls[case] = functools.partial(forward, variables, images_D)
        flops[case] = measure.arithmetic(functools.partial(outputs_of, one), variables, images_D)
    low, high = (np.asarray(calls[case]()).ravel() for case in ("bfloat16", "float32"))
    ledger.add("difference of bf16 from fp32", relative=float(np.abs(low - high).max() / np.abs(high).max()))
    with Twin(torch_python, model, variant, net, host, images) if twin else contextlib.nullcontext() as process:
        if process:
            ledger.add(
                f"difference of {process.version}",
                relative=process.refuse_other(in_full_precision(net, variables, images_D)),
            )
        times = measure.race(calls | twin_calls(process, tiny), 2 if tiny else measure.ROUNDS)
    add_times(ledger, times, flops, batch, tiny)
    ledger.add("summary", batch=batch, gflop_per_image=flops["float32"] / batch / 1e9, **best_twin(times))
    ledger.close()
    return int(difference > AGREES)


def in_full_precision(net, variables, images) -> np.ndarray:
    """The outputs of the default device in fp32, without the shorter products that a GPU or TPU takes by default."""
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(functools.partial(outputs_of, net))(variables, images))


def _on_cpu(net, variables, images) -> np.ndarray:
    """The outputs that the CPU of this machine computes, in fp32."""
    cpu = jax.devices("cpu")[0]
    return np.asarray(jax.jit(functools.partial(outputs_of, net))(*jax.device_put((variables, images), cpu)))
