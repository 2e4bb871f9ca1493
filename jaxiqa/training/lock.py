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

from jaxiqa.errors import WorkdirInUse, need_gcsfs
from jaxiqa.training import storage

_FILE = "lock"
_BEAT_SECONDS = 15.0
_SILENT_SECONDS = 120.0  # after which a run that cannot be looked at counts as dead
_lost: list[str] = []  # what to say where another run has taken the workdir


@contextlib.contextmanager
def hold(workdir: epath.PathLike) -> Iterator[None]:
    """Keep the workdir for this run. Nothing else is written before. Of a run's many processes number 0 holds it.

    The lock is created only where there is none, on a disk and in a bucket (gs://). A thread renews it every 15
    seconds. That of a run that is dead is taken over: one of this machine when its process is gone (or the number
    belongs to another process by now), one of another machine, container or start of the machine when it has been
    silent for two minutes, which is waited for. Of many that do so at once one gets it. A run that finds another's lock
    in the place of its own, because it was suspended for long, knows it within 15 seconds of its waking: see check().

    Raises:
      WorkdirInUse: another run lives there (says which, where and since when), or has taken the workdir by now.
      ConfigError: the workdir cannot be written.
      DiskFull: there is no room for the lock.
    """
    need_gcsfs(workdir)
    if jax.distributed.is_initialized() and jax.process_index():
        yield
        return
    workdir = epath.Path(workdir)
    path, mine = workdir / _FILE, _about_us()
    try:
        with storage.errors_as_oserror():
            workdir.mkdir(parents=True, exist_ok=True)
        _take(path, mine)
    except OSError as error:
        raise storage.unwritable(workdir, error) from error
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(path, mine, stop), name="workdir lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        lost = _lost.copy()
        _lost.clear()
        with contextlib.suppress(OSError):  # then it falls free when it has been silent for long enough
            if _is_ours(path, mine):
                storage.remove(path)
    if lost:
        raise WorkdirInUse(lost[0])


def check() -> None:
    """To be asked before a run writes: WorkdirInUse where another run has taken the workdir that this one held."""
    if _lost:
        raise WorkdirInUse(_lost[0])


def is_lock(path: epath.Path) -> bool:
    """Whether a file of a workdir is its lock, or the lock's own."""
    return path.name.partition(".")[0] == _FILE


def _take(path: epath.Path, mine: dict[str, Any]) -> None:
    for _ in range(3):
        other = _read(path)
        if other is None:
            if storage.create(path, _text(mine)) or _is_ours(path, mine):  # gcsfs may have tried twice
                return
        elif not _is_dead(path, other):
            raise WorkdirInUse(_in_use(path, other))
        elif _replace_dead(path, other, mine):
            return
    raise WorkdirInUse(_in_use(path, _read(path)))  # others were quicker, again and again


def _replace_dead(path: epath.Path, other: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether the lock of a dead run is ours now.

    Only who holds the lock's own lock, which bears the name of the dead run, may write over it. So nobody does who
    looked before somebody else took it over.
    """
    claim = path.with_name(f"{path.name}.{other.get('token', 'unreadable')}")
    _take(claim, mine)
    try:
        if same := _read(path) == other:
            storage.write(path, _text(mine))
        return same
    finally:
        storage.remove(claim)


def _in_use(path: epath.Path, other: dict[str, Any] | None) -> str:
    return (
        f"{path.parent} is in use by {_name(other)}; wait for it, or name another --workdir (if that run is gone, "
        f"remove {path})"
    )


def _name(other: dict[str, Any] | None) -> str:
    return f"process {other['pid']} on {other['host']} since {other['since']}" if other else "another run"


def _is_dead(path: epath.Path, other: dict[str, Any]) -> bool:
    if not other:
        return True
    if _place(other) == _place(_about_us()) and all(_place(other)):
        return _started(other["pid"]) != other["started"]
    # Two machines' clocks may differ: whatever they say, it lives if it renews its lock while we look.
    left = max(1.5 * _BEAT_SECONDS, _SILENT_SECONDS - max(0.0, time.time() - other["beat"]))
    print(f"{path.parent} is locked by {_name(other)}: waiting up to {left:.0f} s for a sign of life", flush=True)
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(1.0, _BEAT_SECONDS))
        if (now := _read(path)) != other:
            return not now or now["token"] != other["token"]
    return True


def _place(about: dict[str, Any]) -> list[str]:
    """Where a process number means the same process. Containers may have equal host names, or a machine in common."""
    return [about["host"], about["boot"], about.get("namespace", "")]


def _about_us() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": _boot(),
        "namespace": _namespace(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "token": uuid.uuid4().hex,
        "beat": time.time(),
    }


def _text(mine: dict[str, Any]) -> str:
    return json.dumps({**mine, "beat": time.time()})


def _renew(path: epath.Path, mine: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(_BEAT_SECONDS):  # waits by the monotonic clock
        with contextlib.suppress(OSError):  # a full disk or a network that is down is no reason to stop
            other = _read(path)
            if other is None:
                storage.create(path, _text(mine))
            elif other and other["token"] != mine["token"]:
                _lost.append(
                    f"{path.parent} was taken over by {_name(other)} (was this run suspended, or cut off, for two "
                    "minutes?); it stops, and what it has saved is there"
                )
                return
            else:
                storage.write(path, _text(mine))


def _is_ours(path: epath.Path, mine: dict[str, Any]) -> bool:
    return (_read(path) or {}).get("token") == mine["token"]


def _read(path: epath.Path) -> dict[str, Any] | None:
    """What a lock says, {} where that is nothing that a run has written, None where there is none; OSError."""
    text = storage.read(path)
    if text is None:
        return None
    try:
        found = json.loads(text)
        return found if {"pid", "host", "boot", "started", "since", "token", "beat"} <= found.keys() else {}
    except (ValueError, AttributeError):
        return {}


def _boot() -> str:
    """This start of the machine; "" where that is not told."""
    path = pathlib.Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _namespace() -> str:
    """The container, so to speak, in which process numbers count; "" where there is no such thing."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, so that another one with its number is not taken for it; "" where there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]  # field 22, clock ticks since the boot
