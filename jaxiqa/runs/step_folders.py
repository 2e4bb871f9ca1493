"""What is in a folder of checkpoints, told from its small files."""

import dataclasses

from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.runs import digests
from jaxiqa.runs.bucket import FOLDER, Disk, files_of, why

_ABOUT = "_CHECKPOINT_METADATA"  # Orbax's description of a step: which parts it has, and our own values
_TEMPORARY = "*.orbax-checkpoint-tmp*"  # what a save that was cut off leaves


@dataclasses.dataclass(frozen=True)
class StepFolder:
    """One finished step.

    Attributes:
      step, path: which, and where.
      metric: the validation metric that picks the best step; None without an evaluation.
      flaw: what is wrong with its small files, "" if nothing. The arrays may be damaged all the same.
    """

    step: int
    path: epath.Path
    metric: float | None
    flaw: str


def find_steps(workdir: epath.Path) -> list[StepFolder]:
    """The finished steps of a workdir that are not set aside, in order.

    Raises:
      CheckpointError: the disk or the network does not give a file now.
    """
    files = files_of(workdir)
    return [_examined(files, path) for path in files.steps()]


def _examined(files: Disk, path: epath.Path) -> StepFolder:
    metrics, flaw, part = None, "", _ABOUT
    try:
        described = files.read_json(path / _ABOUT)
        for part in described["item_handlers"]:
            if not (path / part).is_dir():
                raise ValueError
        if "metrics" in described["item_handlers"]:
            part = "metrics/metrics"
            metrics = files.read_json(path / part)
            if not all(isinstance(value, float) for value in metrics.values()) or len(metrics) != 1:
                raise ValueError
        part = ""
        digests.read(path, [described.get("custom_metadata"), metrics])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        flaw = f"{part} cannot be read" if part else str(error)
    except OSError as error:  # of the disk or the network: the step may be whole
        raise CheckpointError(
            f"checkpoint {path} cannot be read now ({why(error)}); it was left where it is"
        ) from error
    return StepFolder(int(path.name), path, next(iter(metrics.values())) if metrics and not flaw else None, flaw)


def best_of(steps: list[StepFolder]) -> int | None:
    """The step with the highest metric, of equal ones the latest; None without an evaluation."""
    rated = [s for s in steps if s.metric is not None]
    return max(rated, key=lambda s: (s.metric, s.step)).step if rated else None


def remove_unfinished(workdir: epath.Path) -> None:
    """Delete what a failed save left."""
    for path in (workdir / FOLDER).glob(_TEMPORARY):
        path.rmtree(missing_ok=True)
