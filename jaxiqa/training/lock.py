"""One run in one workdir: WORKDIR/lock says which."""

import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from jaxiqa.errors import ConfigError, WorkdirInUse

_FILE = "lock"
_BEAT_SECONDS = 15.0
_SILENT_SECONDS = 120.0  # after which the run of another host counts as dead


@contextlib.contextmanager
def hold(workdir: epath.PathLike) -> Iterator[None]:
    """Keep the workdir for this run. Nothing else is written before. Of a run's many processes number 0 holds it.

    The lock of a run that is dead is taken over: on this host when its process is gone (or the machine was started
    anew, or the number belongs to another process by now), on another host when it has been silent for two minutes. A
    thread renews the lock every 15 seconds. A local lock is created only where there is none. In a bucket (gs://) that
    cannot be asked for: there it is written and read back, so that of two runs started in the same second one stops a
    moment later.

    Raises:
      WorkdirInUse: another run lives there; says which, where and since when.
      ConfigError: the workdir cannot be written.
    """
    if jax.distributed.is_initialized() and jax.process_index():
        yield
        return
    workdir = epath.Path(workdir)
    path, mine = workdir / _FILE, _about_us()
    _take(path, mine)
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(path, mine, stop), name="workdir lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _read(path).get("token") == mine["token"]:
            path.unlink(missing_ok=True)


def _take(path: epath.Path, mine: dict[str, Any]) -> None:
    try:
        for _ in range(3):
            if path.exists():
                _remove_dead(path, mine["token"])
            if _create(path, mine):
                return
    except OSError as error:
        raise ConfigError(
            f"--workdir {path.parent} cannot be written ({error.strerror}); name another folder"
        ) from error
    raise WorkdirInUse(_in_use(path, _read(path)))  # others were quicker, again and again


def _create(path: epath.Path, mine: dict[str, Any]) -> bool:
    """Whether the lock is ours. A local one appears whole or not at all, and only where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "://" in str(path):
        path.write_text(json.dumps(mine))
        time.sleep(1.0)
        return _read(path).get("token") == mine["token"]
    scratch = pathlib.Path(f"{path}.{mine['token']}")
    try:
        scratch.write_text(json.dumps(mine))
        os.link(scratch, path)
    except FileExistsError:
        return False
    finally:
        scratch.unlink(missing_ok=True)
    return True


def _remove_dead(path: epath.Path, token: str) -> None:
    """Remove the lock of a dead run; WorkdirInUse where it lives."""
    other = _read(path)
    if other and not _is_dead(path, other):
        raise WorkdirInUse(_in_use(path, other))
    aside = path.with_name(f"{path.name}.{token}")
    try:
        path.rename(aside)  # only one of those who found it dead can do this
    except FileNotFoundError:
        return
    taken = _read(aside)
    if taken != other and not path.exists():  # it was that of a run which had taken over in the meantime
        aside.rename(path)
        raise WorkdirInUse(_in_use(path, taken))
    aside.unlink(missing_ok=True)


def _in_use(path: epath.Path, other: dict[str, Any]) -> str:
    who = f"process {other['pid']} on {other['host']} since {other['since']}" if other else "another run"
    return (
        f"{path.parent} is in use by {who}; wait for it, or name another --workdir (if that run is surely gone, remove "
        f"{path})"
    )


def _is_dead(path: epath.Path, other: dict[str, Any]) -> bool:
    if other["host"] == socket.gethostname() and other["boot"]:
        return other["boot"] != _boot() or _started(other["pid"]) != other["started"]
    if abs(time.time() - other["beat"]) < _SILENT_SECONDS:
        return False
    # Two hosts' clocks may differ: it is dead if it does not renew its lock while we look.
    time.sleep(1.5 * _BEAT_SECONDS)
    return _read(path) == other


def _about_us() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": _boot(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "token": uuid.uuid4().hex,
        "beat": time.time(),
    }


def _renew(path: epath.Path, mine: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(_BEAT_SECONDS):  # waits by the monotonic clock
        with contextlib.suppress(OSError):  # a full disk is no reason to stop
            if _read(path).get("token") == mine["token"]:
                scratch = path.with_name(f"{path.name}.{mine['token']}")
                scratch.write_text(json.dumps({**mine, "beat": time.time()}))
                scratch.replace(path)


def _read(path: epath.Path) -> dict[str, Any]:
    """What a lock says; {} where there is none, or one of a run that was killed while it wrote it."""
    try:
        found = json.loads(path.read_text())
        return found if {"pid", "host", "boot", "started", "since", "token", "beat"} <= found.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _boot() -> str:
    """This start of the machine; "" where that is not told."""
    path = pathlib.Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _started(pid: int) -> str:
    """When a process was started, so that another one with its number is not taken for it; "" where there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]  # field 22, clock ticks since the boot
