"""The speed of an exported file in ONNX Runtime beside that of the checkpoint in JAX, on the CPU."""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from jaxiqa.exporting import need_packages
from jaxiqa.models import ready
from jaxiqa.runs import compile_cache
from jaxiqa.scoring.engine import readers_by_default
from jaxiqa.scoring.predict import jit_scores
from jaxiqa.scoring.scorer import Scorer

BATCHES = (1, 16, 64)  # crops that are scored at a time
ROUNDS, SECONDS = 5, 1.0  # of each measurement


def rate(score: Callable[[np.ndarray], object], crops: np.ndarray) -> float:
    """Crops per second of a function of a batch."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        score(crops)
        count += len(crops)
    return count / (time.perf_counter() - began)


def run(checkpoint: str | None = None) -> int:
    """Prints the table. The two take turns, so that a busy machine slows both."""
    need_packages()
    from jaxiqa.exporting import onnx_file
    from jaxiqa.exporting.crop_scores import real_crops

    compile_cache.enable()
    jax.config.update("jax_platforms", "cpu")
    scorer = Scorer(ready.by_default(checkpoint, "--checkpoint"))
    forward = jit_scores(scorer.model)
    ways = {
        "JAX": lambda crops: jax.device_get(forward(scorer.variables, crops)),
        "ONNX Runtime": onnx_file.runner(onnx_file.make(scorer, "fp32")),
    }
    named = scorer.card.model
    print(
        f"{named['name']} {named['variant']}, {readers_by_default()} core(s); medians of {ROUNDS} rounds of "
        f"{SECONDS:g} s, in crops/s, from uint8 crops to scores"
    )
    print(f"{'crops at a time':>16} {'JAX':>12} {'ONNX Runtime':>14} {'ratio':>7}  of the rounds")
    for size in BATCHES:
        crops = real_crops(scorer, size)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, score in ways.items():
                found = rate(score, crops)
                if turn:  # the first turn compiles
                    rates[name].append(found)
        ours, theirs = (statistics.median(rates[name]) for name in ways)
        ratios = sorted(b / a for a, b in zip(*rates.values(), strict=True))
        print(
            f"{size:16} {ours:12.1f} {theirs:14.1f} {statistics.median(ratios):7.2f}  "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            flush=True,
        )
    return 0
