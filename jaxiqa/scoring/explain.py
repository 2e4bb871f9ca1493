"""Explains a score: the kinds of distortion that a model's pretrained branch recognises in an image."""

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.evaluation.probe import Probe
from jaxiqa.files import write_bytes
from jaxiqa.models import pretrainable
from jaxiqa.runs.checkpoint import Saved

_PROBE = "probe.npz"


def keep_probe(pretrained: Saved, workdir: epath.Path) -> None:
    """Copies the probe of a run of jaxiqa pretrain, if it has one, to a run that keeps its encoder frozen."""
    probe = pretrained.workdir / f"probe_{pretrained.step}.npz"
    if probe.exists():
        write_bytes(workdir / _PROBE, probe.read_bytes())


class Explainer:
    """Turns the features of a model's pretrained part into probabilities of distortion families.

    Args:
      workdir: workdir of a run that kept a probe.
      name: name of its model.

    Attributes:
      families: the names of the F families; "pristine" is one of them.

    Raises:
      CheckpointError: no probe was kept, or it cannot be read.
    """

    def __init__(self, workdir: epath.Path, name: str):
        path, taps = workdir / _PROBE, pretrainable(name)
        self._tap = next(iter(taps.values()), "")
        try:
            self._probe = Probe.load(path)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"checkpoint {workdir} has no {_PROBE}, which --explain needs; "
                + (
                    f"a run of {name} keeps one if --config.init.{next(iter(taps))} is a finished run of "
                    "jaxiqa pretrain and that part is frozen"
                    if taps
                    else f"{name} has no part that jaxiqa pretrain trains"
                ),
                code="not_found",
                key=workdir,
            ) from error
        except (ValueError, KeyError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}); copy it again from the pretraining's workdir",
                code="damaged",
                key=path,
            ) from error
        self.families = tuple(dict.fromkeys(self._probe.families))
        self._member = np.array([[f == name for name in self.families] for f in self._probe.families], np.float32)

    def __call__(self, out: dict) -> jax.Array:
        """Returns probabilities (B, F) of B crops. `out` is the second output of the model. Works under jit."""
        logits = out[self._tap] @ self._probe.weight + self._probe.bias.reshape(1, -1)
        return jax.nn.softmax(logits, axis=1) @ jnp.asarray(self._member)
