"""The folder of a run: it is created at the start, and never shared by two different runs."""

import json

from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from jaxiqa.config import default_of, may_change
from jaxiqa.errors import ConfigError
from jaxiqa.files import json_text
from jaxiqa.runs.bucket import files_of, unwritable

_CHANGES = "changes"  # key in config.json: which keys changed at which step


def open_workdir(workdir: epath.Path) -> None:
    """Create the folder, and make sure that files can be written there.

    Raises:
      ConfigError: files cannot be written there.
      DiskFull: the disk is full.
    """
    try:
        files_of(workdir).make("metrics.jsonl")
    except OSError as error:
        raise unwritable(workdir, error) from error


def save_config(
    config: ConfigDict, fingerprint: str, workdir: epath.Path, step: int | None, override: bool = False
) -> None:
    """Write config.json. Before a run resumes, make sure that its config and data are the same as before.

    Every allowed change is recorded in config.json, as {"step", "changed": {key: [before, after]}}.

    Args:
      fingerprint: of the split.
      step: of the checkpoint that the run resumes from; None for a new run.
      override: whether a resumed run may change the keys that config.py marks OVERRIDE.

    Raises:
      ConfigError: keys differ that must not change; it names all of them. Or config.json cannot be read.
      DiskFull: the disk is full.
    """
    path = workdir / "config.json"
    ours = json.loads(json_text({**config.to_dict(), "split_fingerprint": fingerprint}))
    if step is not None and path.exists():
        theirs = _read(path)
        changes = theirs.pop(_CHANGES, [])
        flat, old = (traverse_util.flatten_dict(c, sep=".") for c in (ours, theirs))
        defaults = {key: default_of(key) for key in flat.keys() | old.keys()}  # an older version has fewer keys
        flat, old = defaults | flat, defaults | old
        changed = [key for key in sorted(defaults) if flat[key] != old[key]]
        refused = [key for key in changed if not may_change(key, old[key], flat[key], override)]
        if refused:
            diff = "; ".join(f"{k}: {old[k]!r} before, {flat[k]!r} now" for k in refused)
            may = not override and all(may_change(key, old[key], flat[key], override=True) for key in refused)
            raise ConfigError(
                f"{workdir} holds a run with another config ({diff}); use another --workdir"
                + (", or --override to resume with the new values" if may else ""),
                code="changed",
                key=workdir,
            )
        if changed:
            print(f"config changed at step {step}: " + "; ".join(f"{k} {old[k]} -> {flat[k]}" for k in changed))
            changes.append({"step": step, "changed": {k: [old[k], flat[k]] for k in changed}})
        if changes:
            ours[_CHANGES] = changes
    try:
        files_of(workdir).write(path, json_text(ours, 1) + "\n")
    except OSError as error:
        raise unwritable(workdir, error) from error


def _read(path: epath.Path) -> dict:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a config")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}); put a copy of it back, or remove it to resume with the given config, "
            "unchecked",
            code="damaged",
            key=path,
        ) from error
    return found
