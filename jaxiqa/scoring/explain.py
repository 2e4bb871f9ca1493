"""Why a score is what it is: which kinds of distortion a model's pretrained branch sees."""

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.evaluation.drawing import write_bytes
from jaxiqa.evaluation.probe import Probe
from jaxiqa.models import pretrainable
from jaxiqa.runs.checkpoint import Saved

_PROBE = "probe.npz"


def keep_probe(pretrained: Saved, workdir: epath.Path) -> None:
    """Copy the probe of a run of jaxiqa.pretrain, where there is one, to a run that holds its encoder frozen."""
    probe = pretrained.workdir / f"probe_{pretrained.step}.npz"
    if probe.exists():
        write_bytes(workdir / _PROBE, probe.read_bytes())


class Explainer:
    """Probabilities of families of distortions, from the features of a model's pretrained part.

    Args:
      workdir: of a run that kept a probe.
      name: of its model.

    Attributes:
      families: their names, F; "pristine" is one of them.

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
                f"checkpoint {workdir} has no {_PROBE}, so --explain has nothing to say; "
                + (
                    f"a run of {name} keeps one if --config.init.{next(iter(taps))} is a finished run of "
                    "jaxiqa.pretrain and that part is frozen"
                    if taps
                    else f"{name} has no part that jaxiqa.pretrain trains"
                )
            ) from error
        except (ValueError, KeyError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); copy it again from the pretrained run") from error
        self.families = tuple(dict.fromkeys(self._probe.families))
        self._member = np.array([[f == name for name in self.families] for f in self._probe.families], np.float32)

    def __call__(self, out: dict) -> jax.Array:
        """(B, F) probabilities of crops, from what the model returned beside their scores; for use under jit."""
        logits = out[self._tap] @ self._probe.weight + self._probe.bias.reshape(1, -1)
        return jax.nn.softmax(logits, axis=1) @ jnp.asarray(self._member)
