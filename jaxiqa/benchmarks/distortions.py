"""Speed of every distortion and of mixed batches, against libraries on the host and against a training step."""

import functools
import statistics
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxiqa.benchmarks import measure
from jaxiqa.benchmarks.reference_distortions import REFERENCE
from jaxiqa.distortions import CONTRASTIVE, DISTORTIONS, distort, distort_batch, draw
from jaxiqa.models import create_model
from jaxiqa.runs import compile_cache

LEVEL = 3
REPEATS = 5
MAX_SHARE = 0.25  # time of a mixed batch over that of a training step on a CPU, at most


def seconds(call, repeats: int = REPEATS) -> float:
    """Median time of call() in seconds, until its result is ready, after one warm-up."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _image(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Noise with the spectrum of a photograph, 0..1, (..., H, W, 3)."""
    *_, height, width, _ = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(rng.standard_normal(shape), axes=(-3, -2)) / (frequency + 1 / width)[..., None]
    image = np.fft.irfft2(spectrum, (height, width), axes=(-3, -2))
    low, high = image.min((-3, -2, -1), keepdims=True), image.max((-3, -2, -1), keepdims=True)
    return ((image - low) / (high - low)).astype(np.float32)


def run(tiny: bool = False, output: str | None = None, compare: str | None = None) -> int:
    """Prints the tables; returns 1 if a mixed batch takes more than MAX_SHARE of a training step on a CPU.

    The ledger receives the mixed batches. Arguments as for forward.run.
    """
    compile_cache.enable()
    ledger = measure.Ledger("distortions", output, compare)
    rng, key = np.random.default_rng(0), jax.random.key(0)
    device = jax.devices()[0]
    print(f"{device.device_kind} ({device.platform}), one image of 384 x 512 at level {LEVEL}")
    print(f"{'type':24} {'images/s':>10} {'on host libraries':>18} {'ratio':>7}")
    image = _image(rng, 384, 512, 3)
    on_device = jnp.asarray(image)
    for row in DISTORTIONS[:1] if tiny else DISTORTIONS:
        ours = seconds(lambda row=row: distort(on_device, row.id, LEVEL, key))
        parameter, reference = row.levels[LEVEL - 1], REFERENCE[row.name]
        with warnings.catch_warnings(action="ignore"):  # about colours outside sRGB
            theirs = seconds(lambda f=reference, p=parameter: f(image.astype(np.float64), p, rng))
        print(f"{row.id:2} {row.name:21} {1 / ours:10.1f} {1 / theirs:18.1f} {theirs / ours:7.2f}", flush=True)

    on_cpu = device.platform == "cpu"
    crops, whole = (2, 2) if tiny else (16, 8) if on_cpu else (256, 64)
    ceiling = measure.ceilings(tiny=tiny)
    for label, bank, stretch, shape in (
        ("KADID, whole images", DISTORTIONS, True, (whole, 384, 512, 3)),
        ("KADID, crops", DISTORTIONS, True, (crops, 224, 224, 3)),
        ("contrastive, crops", CONTRASTIVE, False, (crops, 224, 224, 3)),
    ):
        bank = bank[:2] if tiny else bank
        images = jnp.asarray(_image(rng, *shape))
        keys = jax.random.split(key, shape[0])
        steps = iter(range(100))
        call = functools.partial(_distort_next, images, keys, bank, stretch, steps)
        times = measure.race({label: call}, 1 if tiny else REPEATS)[label]
        mixed, share = times.median, ceiling.seconds(0.0, 2 * images.nbytes) / times.least
        case = f"mixed batch of {shape[0]} x {shape[1]} x {shape[2]}, {label}"
        ledger.add(case, times, images_per_s=shape[0] / times.least, of_ceiling=share)
    ledger.close()
    if tiny:
        return 0
    step = _training_step(crops, jnp.bfloat16 if not on_cpu else jnp.float32)
    share = mixed / step
    print(f"GlintIQA (vit_s16_r50) training step of {crops} crops: {crops / step:.1f} images/s")
    print(f"mixed batch / training step: {share:.3f} (bar: {MAX_SHARE} or less)")
    return int(share > MAX_SHARE)


def _distort_next(images, keys, bank, stretch: bool, steps):
    """A batch distorted by the types and levels of the next step."""
    types, levels = draw(0, next(steps), len(images), bank)
    return distort_batch(images, types, levels, keys, stretch=stretch, bank=bank)


def _training_step(batch_size: int, dtype) -> float:
    """Seconds of one training step in which all parameters are trained."""
    model, tx = create_model("glintiqa", dtype=dtype), optax.adam(1e-5)
    images = jnp.zeros((batch_size, model.crop_size, model.crop_size, 3), dtype)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images[:1])
    # Compiling the initialisation takes about a minute, and the time of a step does not depend on the values.
    variables = jax.device_put(jax.tree.map(lambda x: np.full(x.shape, 0.01, x.dtype), shapes))

    @jax.jit
    def step(variables, opt_state):
        def loss(params):
            score_B, updated = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats"],
            )
            return jnp.abs(score_B[0]).mean(), updated

        grads, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = tx.update(grads, opt_state)
        return {"params": optax.apply_updates(variables["params"], updates), **updated}, opt_state

    opt_state = tx.init(variables["params"])
    return seconds(lambda: step(variables, opt_state), repeats=1)
