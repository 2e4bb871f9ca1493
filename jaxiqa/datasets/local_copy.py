"""Prepared sets in buckets, copied to the disk of the machine that reads them: array_record files need local ones."""

import hashlib
import json
import os
import shutil

from jaxiqa.errors import DataError, full_disk


def copy_set(bucket, manifest: dict, manifest_name: str, home: str) -> str:
    """A folder below `home` with all files of a prepared set; those that are there are kept.

    The folder's name is that of the set's contents, so that a set which is prepared anew is copied anew. A file appears
    when it is complete, so the same call goes on where it stopped, in any number of processes.

    Args:
      bucket: the set's folder, an epath.
      manifest: what it says of the files.
      manifest_name: the file that says it, which is written last.
      home: folder of copies.

    Raises:
      DataError: a file is not what the manifest says.
      DiskFull: as it says.
    """
    text = json.dumps(manifest, indent=1) + "\n"
    folder = os.path.join(home, f"copy-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    os.makedirs(folder, exist_ok=True)
    missing = {name: about for name, about in manifest["files"].items() if not _is_there(folder, name, about)}
    if missing:
        size = sum(about["bytes"] for about in missing.values()) / 2**30
        print(f"copying {len(missing)} files ({size:.2f} GiB) of {bucket} to {folder}", flush=True)
    for name, about in missing.items():
        _copy(bucket / name, os.path.join(folder, name), about["sha256"])
    last = os.path.join(folder, manifest_name)
    if not os.path.exists(last):
        with full_disk(last), open(f"{last}.{os.getpid()}.tmp", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{last}.{os.getpid()}.tmp", last)
    return folder


def _is_there(folder: str, name: str, about: dict) -> bool:
    path = os.path.join(folder, name)
    return os.path.isfile(path) and os.path.getsize(path) == about["bytes"]


def _copy(source, target: str, sha256: str) -> None:
    part = f"{target}.{os.getpid()}.tmp"
    try:
        with full_disk(target), source.open("rb") as there, open(part, "w+b") as here:
            shutil.copyfileobj(there, here, 2**24)
            here.seek(0)
            digest = hashlib.file_digest(here, "sha256").hexdigest()
        if digest != sha256:
            raise DataError(
                f"{source}: damaged (SHA-256 {digest[:12]}..., {sha256[:12]}... expected); remove it and prepare again"
            )
        os.replace(part, target)
    finally:
        if os.path.exists(part):
            os.remove(part)
