"""The folder of a run: made at its start, and never shared by two runs that differ."""

import json
import re

from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from jaxiqa.errors import ConfigError
from jaxiqa.runs.bucket import files_of, unwritable

# Keys that a resumed run may change: they say when it reports and where it runs, not what it learns.
_HARMLESS = {"log_every", "eval_every", "save_every", "eval_batch_size", "cache_gb", "mesh.data", "mesh.fsdp"}
# What --override allows: how it goes on learning. The data, their order and the model stay those of the checkpoint.
_OVERRIDABLE = re.compile(
    r"(optimizer\.(?!name$)|schedule\.|(loss|total|accumulate|dtype|ema|temperature|skip_nonfinite|test_crops)$)"
)
_CHANGES = "changes"  # in config.json: what was changed at which step
_YOUNGER = {"frozen": [], "ema": 0.0}  # keys that configs of jaxiqa 0.1.0 may lack, and what it did


def open_workdir(workdir: epath.Path) -> None:
    """Make the folder, and make sure that files can be written there.

    Raises:
      ConfigError: they cannot.
      DiskFull: there is no room.
    """
    try:
        files_of(workdir).make("metrics.jsonl")
    except OSError as error:
        raise unwritable(workdir, error) from error


def save_config(
    config: ConfigDict, fingerprint: str, workdir: epath.Path, step: int | None, override: bool = False
) -> None:
    """Write config.json; before resuming, make sure that the run in this workdir had the same config and data.

    Args:
      config, fingerprint: of the run and its split.
      workdir: of the run.
      step: of the checkpoint that it goes on from, None for a new run.
      override: whether it may go on with another optimizer, schedule, loss or length.

    Every change is kept in config.json, as {"step", "changed": {key: [before, after]}}.

    Raises:
      ConfigError: something differs that changes the training; all of it is named. Or config.json cannot be read.
      DiskFull: there is no room.
    """
    path = workdir / "config.json"
    ours = json.loads(json.dumps({**config.to_dict(), "split_fingerprint": fingerprint}))
    if step is not None and path.exists():
        theirs = _read(path)
        changes = theirs.pop(_CHANGES, [])
        flat, old = (_YOUNGER | traverse_util.flatten_dict(c, sep=".") for c in (ours, theirs))
        changed = [k for k in sorted(flat.keys() | old.keys()) if flat.get(k) != old.get(k)]
        refused = [k for k in changed if k not in _HARMLESS and not (override and _OVERRIDABLE.match(k))]
        if refused:
            diff = "; ".join(f"{k}: {old.get(k)!r} there, {flat.get(k)!r} now" for k in refused)
            may = not override and all(map(_OVERRIDABLE.match, refused))
            raise ConfigError(
                f"{workdir} holds a run with another config ({diff}); use another --workdir"
                + (", or --override to go on with what is new" if may else "")
            )
        if changed:
            print(f"config changed at step {step}: " + "; ".join(f"{k} {old.get(k)} -> {flat.get(k)}" for k in changed))
            changes.append({"step": step, "changed": {k: [old.get(k), flat.get(k)] for k in changed}})
        if changes:
            ours[_CHANGES] = changes
    try:
        files_of(workdir).write(path, json.dumps(ours, indent=1) + "\n")
    except OSError as error:
        raise unwritable(workdir, error) from error


def _read(path: epath.Path) -> dict:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a config")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); put a copy of it back, or remove it: then the run goes on with the "
            "config that is given, whatever it began with"
        ) from error
    return found
