"""Explains a score: the kinds of distortion, and their strength, that a linear probe sees in a model's features."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.evaluation.probe import Probe
from jaxiqa.files import write_bytes
from jaxiqa.models import find_model, pretrainable
from jaxiqa.models.calibrated import pooled
from jaxiqa.runs.checkpoint import Saved

FILE = "probe.npz"  # in the folder of a checkpoint
_SHOWN = 0.1  # the least probability that is described


def keep_probe(pretrained: Saved, workdir: epath.Path) -> None:
    """Copies the probe of a run of jaxiqa pretrain, if it has one, to a run that keeps its encoder frozen."""
    probe = pretrained.workdir / f"probe_{pretrained.step}.npz"
    if probe.exists():
        write_bytes(workdir / FILE, probe.read_bytes())


def has_probe(workdir: epath.Path) -> bool:
    """Whether scores of this checkpoint can be explained."""
    return (workdir / FILE).exists()


def taps_of(name: str) -> tuple[str, ...]:
    """The keys of a model's second output that its file declares as features (TAPS); () if it declares none."""
    return tuple(getattr(find_model(name), "TAPS", ()))


def features(out: dict, taps: Iterable[str]) -> jax.Array:
    """The pooled features (B, D), fp32, of B crops: means and standard deviations of these taps of a second output."""
    values = [value for tap in taps for value in (out[tap] if isinstance(out[tap], list | tuple) else [out[tap]])]
    return jnp.concatenate([part for value in values for part in pooled(value.astype(jnp.float32))], axis=-1)


class Explainer:
    """Turns the features of a model into probabilities of distortion families, and a severity.

    Args:
      workdir: folder of a checkpoint with a probe.
      name: name of its model.
      weights: SHA-256 of its weights; "" if it is not known.

    Attributes:
      probe: the probe, with the taps that it reads.
      families: the names of the F families; "pristine" is one of them.
      about: what the probe was fitted on and how good it is; {} for one of jaxiqa pretrain.

    Raises:
      CheckpointError: there is no probe, it cannot be read, or it was fitted to other weights.
    """

    def __init__(self, workdir: epath.Path, name: str, weights: str = ""):
        path = workdir / FILE
        remedy = f"make one from undistorted photographs: jaxiqa probe --checkpoint {workdir} PHOTOGRAPHS"
        try:
            probe = Probe.load(path)
            self.probe = dataclasses.replace(probe, taps=probe.taps or tuple(pretrainable(name).values())[:1])
            describe_probe(probe.about)
            if not self.probe.taps:
                raise ValueError(f"{name} does not have its features")
        except FileNotFoundError as error:
            raise CheckpointError(
                f"checkpoint {workdir} has no {FILE}, which --explain needs; {remedy}", code="not_found", key=workdir
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); {remedy}", code="damaged", key=path) from error
        fitted = probe.about.get("weights", "")
        if fitted and weights and fitted != weights:
            raise CheckpointError(
                f"{path} belongs to other weights, e.g. of another step; {remedy}", code="mismatch", key=path
            )
        self.families, self.about = probe.groups, dict(probe.about)

    def __call__(self, out: dict) -> jax.Array:
        """Returns (B, F + 1) for B crops: probabilities, and the severity, 0 to 5 (nan if the probe has none).

        `out` is the second output of the model. Works under jit.
        """
        probe = self.probe
        x = features(out, probe.taps)
        logits = x @ probe.weight + probe.bias.reshape(1, -1)
        found = jax.nn.softmax(logits, axis=1) @ jnp.asarray(probe.member)
        if probe.severity is None:
            return jnp.pad(found, ((0, 0), (0, 1)), constant_values=np.nan)
        severity = jnp.clip(x @ probe.severity[:-1] + probe.severity[-1], 0, 5)
        return jnp.concatenate([found, severity[:, None]], axis=1)


def explainer_if_any(workdir: epath.Path, name: str, weights: str = "") -> Explainer | None:
    """The Explainer of a checkpoint; None without a probe, or, with a warning, if it cannot be used."""
    try:
        return Explainer(workdir, name, weights)
    except CheckpointError as error:
        if has_probe(workdir):
            print(f"warning: there are no reasons: {error}")
        return None


def in_words(families: Sequence[str], explanation: Sequence[float]) -> str:
    """E.g. "blur 83 %, noise 12 %; severity 3.1 of 5" for the values of a prediction's explanation; "" without any."""
    if not len(explanation) or np.isnan(explanation[0]):
        return ""
    *shares, severity = explanation
    seen = sorted((p, name) for name, p in zip(families, shares, strict=True) if p >= _SHOWN)
    strength = "" if np.isnan(severity) else f"; severity {severity:.1f} of 5"
    return ", ".join(f"{name} {100 * p:.0f} %" for p, name in reversed(seen)) + strength


def describe_probe(about: Mapping) -> str:
    """How good a probe is, in a sentence; "" if that is not known."""
    if "balanced_accuracy" not in about:
        return ""
    return (
        f"reasons: a probe fitted on {about['of']}; on the {about['held_out']} photographs that were held out, the "
        f"family is right for {about['accuracy']:.0%} of the crops (mean of the families "
        f"{about['balanced_accuracy']:.0%}), and the severity is off by {about['severity_error']:.1f} of 5"
    )
