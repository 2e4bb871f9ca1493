"""The steps in a folder of checkpoints, described by their small files."""

import dataclasses

from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.runs import digests
from jaxiqa.runs.bucket import FOLDER, Disk, files_of, why

_ABOUT = "_CHECKPOINT_METADATA"  # Orbax's description of a step: its parts, and our CheckpointMeta
_TEMPORARY = "*.orbax-checkpoint-tmp*"  # folders that unfinished saves leave


@dataclasses.dataclass(frozen=True)
class StepFolder:
    """One finished step.

    Attributes:
      step, path: its number and its folder.
      metric: the validation metric that decides which step is the best; None without an evaluation.
      flaw: what is wrong with its small files, "" if nothing. The arrays may still be damaged.
    """

    step: int
    path: epath.Path
    metric: float | None
    flaw: str


def find_steps(workdir: epath.Path) -> list[StepFolder]:
    """The finished steps of a workdir in order, without those that are set aside.

    Raises:
      CheckpointError: a file cannot be read now.
    """
    files, path, found = files_of(workdir), workdir / FOLDER, []
    try:
        for path in files.steps():
            found.append(_examined(files, path))
    except OSError as error:  # the disk or the network failed: the steps may be intact
        raise CheckpointError(
            f"checkpoint {path} cannot be read now ({why(error)}); the checkpoint is kept, so try again",
            code="unreadable",
            key=path,
        ) from error
    return found


def _examined(files: Disk, path: epath.Path) -> StepFolder:
    metrics, flaw, part = None, "", _ABOUT
    try:
        described, there = files.read_json(path / _ABOUT), files.names(path)
        for part in described["item_handlers"]:
            if part not in there:
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
    return StepFolder(int(path.name), path, next(iter(metrics.values())) if metrics and not flaw else None, flaw)


def best_of(steps: list[StepFolder]) -> int:
    """The step with the highest metric (the latest of equal ones), or the latest step if none was evaluated."""
    return max(steps, key=lambda s: (s.metric is not None, s.metric or 0.0, s.step)).step


def remove_unfinished(workdir: epath.Path) -> None:
    """Delete the folders that failed saves left."""
    for path in (workdir / FOLDER).glob(_TEMPORARY):
        path.rmtree(missing_ok=True)
