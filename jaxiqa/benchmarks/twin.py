"""The PyTorch twin of a model (benchmarks/torch_twin.py of a checkout) in a process of its own."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping

import jax
import numpy as np

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.models import find_model
from jaxiqa.weights import names
from jaxiqa.weights.mapping import export_tensors, foreign_name

_SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "torch_twin.py"  # in a checkout only
MODES = ("eager", "channels-last", "compiled", "bf16")  # those of torch_twin.py
# Largest difference of scores, relative to their largest. On a GPU, the libraries choose among algorithms for
# convolutions that round differently.
CPU_LIMIT, GPU_LIMIT = 1e-5, 1e-4


def _started(python: str, path: str) -> subprocess.Popen:
    """The process of a twin. Leaving it as a context closes its input, which ends it."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # its idle threads must not slow JAX
    environment.pop("PYTHONPATH", None)
    try:
        return subprocess.Popen(
            [python, str(_SCRIPT), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    except OSError as error:
        raise ConfigError(
            f"--torch_python={python}: cannot be started ({error.strerror or error}); name a Python interpreter",
            code="not_found",
            key="--torch_python",
        ) from error


class Twin:
    """A running twin; a context manager. A call of step(mode) takes one step and returns its seconds.

    Args:
      python: interpreter in whose environment PyTorch is installed; None: this one.
      name, variant, model: as for create_model, and the module.
      variables: of the model.
      images: float32 (B, H, W, 3), normalised.
      frozen: paths of the parameters that a training step leaves as they are.

    Attributes:
      version: version of PyTorch, and its device.

    Raises:
      ConfigError: the interpreter has no PyTorch, or there is no twin of the model.
      DataError: the twin has ended, here or in any later call.
    """

    def __init__(
        self, python: str | None, name: str, variant: str, model, variables: Mapping, images, frozen: Iterable[str] = ()
    ):
        module = find_model(name).__name__.rpartition(".")[2]
        if module not in ("glintiqa", "vit", "resnet"):
            raise ConfigError(
                f"--twin: there is no PyTorch twin of {name}; choose --model=glintiqa, a ViT or a ResNet",
                code="unknown",
                key="--twin",
            )
        if not _SCRIPT.exists():
            raise ConfigError(
                f"--twin needs {_SCRIPT.name} of a checkout of jaxiqa; run it from one", code="missing", key="--twin"
            )
        rules = names.rules(find_model(name).NAMES)
        tensors, _ = export_tensors(name, variables, variant, {})
        fields = {
            field: getattr(model, field)
            for field in model.__dataclass_fields__
            if field not in ("parent", "name", "dtype", "mean", "std", "eval_bn")
        }
        held = [foreign_name(rules, f"params/{path}") for path in frozen]
        about = {"model": module, "fields": fields, "frozen": held}
        python = python or sys.executable
        with contextlib.ExitStack() as stack:
            path = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "twin.npz")
            np.savez(path, about=json.dumps(about), images=np.asarray(images, np.float32), **tensors)
            self._process = stack.enter_context(_started(python, path))
            found = self._answer()
            if "error" in found:
                raise ConfigError(
                    f"--twin needs PyTorch, which {python} lacks; run python -m pip install torch in an environment "
                    "and name its interpreter by --torch_python",
                    code="package",
                    key="--twin",
                )
            self._open = stack.pop_all()
        self.version = f"PyTorch {found['torch']} on {found['device']}"
        self._limit = CPU_LIMIT if {found["device"], jax.default_backend()} == {"cpu"} else GPU_LIMIT

    def __enter__(self) -> "Twin":
        return self

    def __exit__(self, *_) -> None:
        self._open.close()

    def _answer(self) -> dict:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.endswith("\n"):
            status = self._process.wait()
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise DataError(
                f"the PyTorch twin has ended ({how}); see its messages above, or give a smaller --batch_size if the "
                "memory was full",
                code="run_failed",
                key="--twin",
            )
        return json.loads(line)

    def _ask(self, line: str) -> dict:
        with contextlib.suppress(BrokenPipeError):  # it has ended, so there is no answer
            os.write(self._process.stdin.fileno(), f"{line}\n".encode())  # no buffer that its end must flush
        return self._answer()

    def scores(self) -> np.ndarray:
        """The outputs (B,) or (B, classes) of the model for the images, in fp32."""
        return np.array(self._ask("scores")["scores"])

    def refuse_other(self, expected) -> float:
        """Returns the relative difference of the twin's outputs from ours.

        Raises:
          DataError: it is above CPU_LIMIT, or with a GPU above GPU_LIMIT, so the twin is not the same network.
        """
        expected = np.asarray(expected, np.float64)
        difference = float(np.abs(self.scores() - expected).max() / np.abs(expected).max())
        if not difference <= self._limit:
            raise DataError(
                f"the outputs of the PyTorch twin differ by {difference:.1e} of their largest, more than "
                f"{self._limit:g}; their times cannot be compared",
                code="mismatch",
                key="--twin",
            )
        return difference

    def works(self, mode: str) -> str:
        """Builds a mode and takes one step in it. Returns why it does not work, or ""."""
        return self._ask(mode).get("error", "")

    def step(self, mode: str) -> float:
        """Takes one step and returns its seconds. Raises DataError if it fails."""
        found = self._ask(mode)
        if "error" in found:
            raise DataError(
                f"the PyTorch twin failed in mode {mode} ({found['error']}); give a smaller --batch_size if the "
                "memory was full",
                code="run_failed",
                key="--twin",
            )
        return float(found["seconds"])
