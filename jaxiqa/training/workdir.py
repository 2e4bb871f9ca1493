"""The folder of a run: made at its start, and never shared by two runs that differ."""

import json
import os

from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from jaxiqa.errors import ConfigError

# Keys that a resumed run may change: they say when it reports and where it runs, not what it learns.
_HARMLESS = {"log_every", "eval_every", "save_every", "eval_batch_size", "cache_gb", "mesh.data", "mesh.fsdp"}


def open_workdir(workdir: epath.Path) -> None:
    """Make the folder, and make sure that files can be written there; ConfigError where they cannot."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if "://" not in os.fspath(workdir):  # a bucket knows no appending; see run_folder.py
            (workdir / "metrics.jsonl").open("a").close()
    except OSError as error:
        raise ConfigError(f"--workdir {workdir} cannot be written ({error.strerror}); name another folder") from error


def save_config(config: ConfigDict, fingerprint: str, workdir: epath.Path, resumes: bool) -> None:
    """Write config.json; before resuming, make sure that the run in this workdir had the same config and data.

    Raises:
      ConfigError: something differs that changes the training; all of it is named.
    """
    path = workdir / "config.json"
    ours = json.loads(json.dumps({**config.to_dict(), "split_fingerprint": fingerprint}))
    if resumes and path.exists():
        flat, old = (traverse_util.flatten_dict(c, sep=".") for c in (ours, json.loads(path.read_text())))
        changed = [k for k in sorted(flat.keys() | old.keys()) if flat.get(k) != old.get(k) and k not in _HARMLESS]
        if changed:
            diff = "; ".join(f"{k}: {old.get(k)!r} there, {flat.get(k)!r} now" for k in changed)
            raise ConfigError(f"{workdir} holds a run with another config ({diff}); use another --workdir")
    path.write_text(json.dumps(ours, indent=1) + "\n")
