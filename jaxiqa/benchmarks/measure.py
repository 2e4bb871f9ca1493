"""What benchmarks share: timing in turns, the ceilings of the device, arithmetic of a function, and files of results.

A ceiling is measured in the same run as what is compared with it. `Ledger` prints each measurement and writes all of
them to a file, which a later run compares itself with.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxiqa.errors import ConfigError, DataError, read_code
from jaxiqa.files import write_json
from jaxiqa.version import __version__

ROUNDS = 7


class Times(NamedTuple):
    """Seconds of a call: the median and the minimum of some rounds."""

    median: float
    least: float


class Ceilings(NamedTuple):
    """What the device reaches: FLOP/s of a large matrix product, bytes/s (read and written) of a large copy."""

    flops: float
    bytes: float

    def seconds(self, flops: float, moved: float = 0.0) -> float:
        """The least time for this arithmetic and these bytes, if both overlap."""
        return max(flops / self.flops, moved / self.bytes)


def race(calls: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, Times]:
    """Times calls until their results are ready. They take turns, so that a busy machine slows all of them.

    A call may return its own time in seconds, a float, e.g. of another process. The first round is not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            result = jax.block_until_ready(call())
            if turn:  # the first turn compiles
                taken[name].append(result if isinstance(result, float) else time.perf_counter() - began)
    return {name: Times(statistics.median(times), min(times)) for name, times in taken.items()}


def ceilings(dtype=jnp.float32, tiny: bool = False) -> Ceilings:
    """Measures the ceilings of the default device for this type. `tiny` only tries that it runs."""
    on_cpu = jax.default_backend() == "cpu"
    side, count = (64, 2**16) if tiny else (2048, 2**26) if on_cpu else (8192, 2**29)
    rng = np.random.default_rng(0)  # random values: zeros take less power and are faster
    a = jnp.asarray(rng.standard_normal((side, side)), dtype)
    x = jnp.asarray(rng.standard_normal(count // 2**6), jnp.float32).repeat(2**6)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    found = race({"product": lambda: product(a, a), "copy": lambda: copy(x)}, 5)
    return Ceilings(2 * side**3 / found["product"].least, 2 * x.nbytes / found["copy"].least)


def arithmetic(function: Callable, *arguments) -> float:
    """The FLOPs of the matrix products and convolutions of a function, forwards and backwards, as it is written.

    A product is counted as two. Of forms for several platforms, the one with the most FLOPs counts: the definition.
    What the result does not need is not counted.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return _flops(closed.jaxpr)


def _flops(jaxpr) -> float:
    needed = {variable for variable in jaxpr.outvars if isinstance(variable, core.Var)}
    total = 0.0
    for equation in reversed(jaxpr.eqns):
        if not equation.effects and not needed.intersection(equation.outvars):
            continue
        needed.update(variable for variable in equation.invars if isinstance(variable, core.Var))
        total += _of_equation(equation)
    return total


def _of_equation(equation) -> float:
    name, parameters = equation.primitive.name, equation.params
    out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2.0 * out * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, parameters["dimension_numbers"]
        zeros = math.prod(parameters["lhs_dilation"])  # between the values, in the gradient of a strided convolution
        return 2.0 * out * math.prod(kernel) / kernel[numbers.rhs_spec[0]] / zeros
    inner = [_flops(getattr(p, "jaxpr", p)) for p in jax.tree.leaves(parameters, is_leaf=_is_jaxpr) if _is_jaxpr(p)]
    if not inner:
        return 0.0
    if name == "cond":
        return max(inner)
    return sum(inner) * parameters.get("length", 1)


def _is_jaxpr(value) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def one_of(key: str, value: str, known: Iterable[str]) -> None:
    """Raises ConfigError if the value of a flag is not one of those."""
    if value not in (known := list(known)):
        raise ConfigError(f"{key}={value} must be one of {', '.join(known)}", code="unknown", key=key)


def about() -> dict[str, Any]:
    """Versions and hardware, for a file of results."""
    devices = jax.devices()
    return {
        "jaxiqa": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],  # of the last minute, at the start
    }


class Ledger:
    """Collects measurements, prints them, and writes them to a file.

    Args:
      subject: subject of the benchmark.
      output: JSON file, or None. The rows of other subjects in it stay.
      compare: JSON file that an earlier run wrote, or None.

    Raises:
      DataError: a file is not one of results.
    """

    def __init__(self, subject: str, output: str | None = None, compare: str | None = None):
        self._subject, self._output, self._about = subject, output, about()
        self._rows: list[dict[str, Any]] = []
        self._old = {row["case"]: row for row in _read(compare)["rows"] if row["subject"] == subject} if compare else {}
        if output and os.path.exists(output):
            _read(output)
        device = f"{self._about['device']} ({self._about['platform']}, {self._about['devices']} device(s))"
        print(f"{subject}: {device}, {self._about['cores']} core(s), load {self._about['load']:.1f}", flush=True)

    def add(self, case: str, times: Times | None = None, note: str = "", **values: float) -> None:
        """Records and prints one measurement; `values` are further numbers, e.g. a rate or a share of a ceiling."""
        row: dict[str, Any] = {"subject": self._subject, "case": case}
        row |= {"median_s": times.median, "least_s": times.least} if times else {}
        row |= {name: float(value) for name, value in values.items()}
        row |= {"note": note} if note else {}
        self._rows.append(row)
        text = f"  {case:36}"
        text += f" {1e3 * times.median:10.2f} ms (least {1e3 * times.least:.2f})" if times else ""
        text += "".join(f"  {name} {value:.4g}" for name, value in values.items())
        before = self._old.get(case, {}).get("least_s")
        text += f"  {before / times.least:.2f}x of before" if times and before else ""
        print(text + (f"  {note}" if note else ""), flush=True)

    def close(self) -> None:
        """Writes the file."""
        if not self._output:
            return
        there = _read(self._output) if os.path.exists(self._output) else {"rows": []}
        kept = [row for row in there["rows"] if row["subject"] != self._subject]
        write_json(self._output, {"about": self._about, "rows": [*kept, *self._rows]})
        print(f"wrote {self._output}")


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if not all({"subject", "case"} <= row.keys() for row in found["rows"]):
            raise ValueError("a row has no subject or case")
        return found
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); name a file that jaxiqa benchmark --output wrote",
            code=read_code(error),
            key=path,
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} has no results of jaxiqa benchmark ({error}); name a file that its --output wrote",
            code="format",
            key=path,
        ) from error
