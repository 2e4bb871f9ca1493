"""What lies in a folder of checkpoints, told from its small files, and what is set aside of it."""

import dataclasses

from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.training import digests, lock, storage
from jaxiqa.training.storage import is_local

FOLDER = "checkpoints"
QUARANTINE = "quarantine"
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
    storage.look_anew(workdir)
    folder = workdir / FOLDER
    if not folder.is_dir():
        return []
    paths = sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    if not is_local(workdir):  # there a step is written in place, and finished with its last file
        marked = {p.name for p in set_aside_before(workdir)}
        paths = [p for p in paths if (p / "commit_success.txt").exists() and f"step_{p.name}" not in marked]
    return [_examined(path) for path in paths]


def _examined(path: epath.Path) -> StepFolder:
    metrics, flaw, part = None, "", _ABOUT
    try:
        described = storage.read_json(path / _ABOUT)
        for part in described["item_handlers"]:
            if not (path / part).is_dir():
                raise ValueError
        if "metrics" in described["item_handlers"]:
            part = "metrics/metrics"
            metrics = storage.read_json(path / part)
            if not all(isinstance(value, float) for value in metrics.values()) or len(metrics) != 1:
                raise ValueError
        part = ""
        digests.read(path, [described.get("custom_metadata"), metrics])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        flaw = f"{part} cannot be read" if part else str(error)
    except OSError as error:  # of the disk or the network: the step may be whole
        raise CheckpointError(
            f"checkpoint {path} cannot be read now ({storage.why(error)}); it was left where it is"
        ) from error
    return StepFolder(int(path.name), path, next(iter(metrics.values())) if metrics and not flaw else None, flaw)


def best_of(steps: list[StepFolder]) -> int | None:
    """The step with the highest metric, of equal ones the latest; None without an evaluation."""
    rated = [s for s in steps if s.metric is not None]
    return max(rated, key=lambda s: (s.metric, s.step)).step if rated else None


def set_aside(workdir: epath.Path, step: int, reason: str) -> epath.Path:
    """Take a step out of the checkpoints: move it to WORKDIR/quarantine/step_N, and return where it is.

    In a bucket a folder cannot be renamed: there a file of that name says that the step is not to be used.
    """
    folder = workdir / QUARANTINE
    folder.mkdir(parents=True, exist_ok=True)
    target, again = folder / f"step_{step}", 1
    if not is_local(workdir):
        target.write_text(reason + "\n")
        return workdir / FOLDER / str(step)
    while target.exists():
        again += 1
        target = folder / f"step_{step}_{again}"
    (workdir / FOLDER / str(step)).rename(target)
    return target


def release(workdir: epath.Path, step: int) -> None:
    """A step is about to be saved anew: in a bucket it is no longer the one that was set aside.

    Raises:
      WorkdirInUse: another run has taken the workdir.
    """
    lock.check()
    marker = workdir / QUARANTINE / f"step_{step}"
    if not is_local(workdir) and marker.exists():
        marker.unlink()


def set_aside_before(workdir: epath.Path) -> list[epath.Path]:
    """What is in quarantine."""
    folder = workdir / QUARANTINE
    return sorted(folder.glob("step_*")) if folder.is_dir() else []


def remove_unfinished(workdir: epath.Path) -> None:
    """Delete what a failed save left."""
    for path in (workdir / FOLDER).glob(_TEMPORARY):
        path.rmtree(missing_ok=True)
