"""Compile times of the scoring function of every system and variant: cold, and with a warm cache of programs."""

import tempfile
import time

import jax
import jax.numpy as jnp

from jaxiqa.benchmarks import measure
from jaxiqa.models import create_model, find_model, list_models
from jaxiqa.scoring.predict import jit_scores

WARM = 0.4  # bar: start with a warm cache over a cold one, over all variants


def systems() -> list[str]:
    """The models that score images, and those that calibrated ones are made of."""
    return [name for name in list_models() if not hasattr(create_model(name), "num_classes")]


def seconds(name: str, variant: str, batch: int) -> float:
    """Seconds to trace and compile the scoring function of a batch of crops."""
    model = create_model(name, variant)
    scales = len(getattr(model, "scales", (1,)))
    crops = jax.ShapeDtypeStruct((batch, scales * model.crop_size, model.crop_size, 3), jnp.uint8)
    images = (1, model.crop_size, model.crop_size, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(images, jnp.float32))
    jax.clear_caches()
    began = time.perf_counter()
    jit_scores(model).lower(variables, crops).compile()
    return time.perf_counter() - began


def run(
    batch_size: int | None = None,
    tiny: bool = False,
    model: str | None = None,
    output: str | None = None,
    compare: str | None = None,
) -> int:
    """Prints the table; returns 1 if the warm starts together are above WARM of the cold ones.

    Args:
      model: the system to measure; None for all.
      others: as for forward.run.
    """
    if model:
        measure.one_of("--model", model, systems())
    ledger = measure.Ledger("compile", output, compare)
    total = {"cold": 0.0, "warm": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        before = {key: getattr(jax.config, key) for key in ("jax_compilation_cache_dir", _LEAST)}
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update(_LEAST, 0.0)
        try:
            for name in [model] if model else systems():
                for variant in ("test",) if tiny else find_model(name).VARIANTS:
                    found = {start: seconds(name, variant, batch_size or 8) for start in total}
                    ledger.add(f"{name} {variant}", cold_s=found["cold"], warm_s=found["warm"])
                    total = {start: total[start] + found[start] for start in total}
        finally:
            for key, value in before.items():
                jax.config.update(key, value)
    ledger.add("all, warm over cold", ratio=total["warm"] / total["cold"], bar=WARM)
    ledger.close()
    return int(total["warm"] > WARM * total["cold"] and not tiny)


_LEAST = "jax_persistent_cache_min_compile_time_secs"
