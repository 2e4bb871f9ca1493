"""The intervals for opinions that are known only after a step is saved: WORKDIR/interval.json, by step."""

import json

from etils import epath

from jaxiqa.errors import CheckpointError
from jaxiqa.evaluation.conformal import check_interval
from jaxiqa.files import write_json

FILE = "interval.json"


def read_interval(workdir: epath.Path, step: int) -> dict:
    """The interval of a step (evaluation/conformal.py); {} if there is none.

    Raises:
      CheckpointError: the file is damaged.
    """
    return _read(workdir).get(str(step), {})


def write_interval(workdir: epath.Path, step: int, interval: dict) -> None:
    """Adds the interval of a step to the file; does nothing if there is no interval."""
    if interval:
        write_json(workdir / FILE, _read(workdir) | {str(step): interval})


def _read(workdir: epath.Path) -> dict:
    path = workdir / FILE
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
        for interval in found.values():
            check_interval(interval)
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); delete it, then jaxiqa evaluate writes it again", code="damaged", key=path
        ) from error
