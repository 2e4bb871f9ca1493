"""One run in one workdir: a lease on it, which a run that is gone loses after two minutes at most.

On a disk it is the file WORKDIR/lease, of `filelock`. In a bucket it is WORKDIR/lease.N: whoever creates the file with
the next number owns the workdir, and nobody writes to the file of another. So a run that was suspended cannot take back
what it has lost.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from etils import epath
from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from jaxiqa.errors import WorkdirInUse
from jaxiqa.runs.bucket import Bucket, Disk, files_of, unwritable

_FILE = "lease"
_OLD_FILE = "lock"  # of version 0.1.0
_BEAT_SECONDS = 15.0  # between two renewals
_LEASE_SECONDS = 120.0  # without a renewal, after which another run may take the workdir
_MOMENT = 1.0  # seconds, for others to finish what they have begun


class WorkdirLease:
    """Keeps a workdir for this run. A context manager: nothing else is written before it is entered.

    The lease of a run that is gone is taken over: at once if its process was one of this machine, else (of another
    machine, container or start of the machine) after two minutes without a renewal, which are waited for. Of many runs
    that do so at once, one gets it. The `lock` of a live run of version 0.1.0 counts as a lease.

    Args:
      workdir: the folder of the run; it is made.
      held: False on the processes of a run that leave it to process 0; then nothing is done.

    Raises:
      WorkdirInUse: another run lives there when it is entered (says which, on which machine and since when), or has
        taken the workdir when it is left.
      ConfigError: the workdir cannot be written.
      DiskFull: there is no room.
    """

    def __init__(self, workdir: epath.PathLike, held: bool = True):
        self._files, self._held = files_of(workdir), held
        self._claim = (_InBucket if isinstance(self._files, Bucket) else _OnDisk)(self._files)
        self._lost, self._looked = "", 0.0

    def __enter__(self) -> "WorkdirLease":
        old = self._files.workdir / _OLD_FILE
        try:
            if self._held:
                _wait_for_death(old, lambda: _parsed(self._files.read(old)))
                self._files.make()
                self._looked = time.time()
                self._claim.take()
                self._files.remove(old)
        except OSError as error:
            raise unwritable(self._files.workdir, error) from error
        return self

    def check(self) -> None:
        """To be called before a run writes. It looks at the workdir once in 15 seconds, so each step may call it.

        Raises:
          WorkdirInUse: the lease is lost, because this process was suspended or cut off from the workdir.
        """
        now = time.time()  # before the look, as this process may be suspended at any moment
        unseen = abs(now - self._looked)
        if self._held and not self._lost and (self._claim.is_lost or unseen > _BEAT_SECONDS):
            if unseen > _LEASE_SECONDS - 2 * _BEAT_SECONDS:
                time.sleep(_MOMENT)  # it may have expired, and be taken after a look, until it is renewed
            self._lost, self._looked = self._claim.loss(), now
        if self._lost:
            raise WorkdirInUse(self._lost)

    def __exit__(self, kind, *_):
        if self._held:
            self._lost = self._lost or self._claim.loss()
            with contextlib.suppress(OSError):  # then it expires
                self._claim.drop()
            if self._lost and kind is None:
                raise WorkdirInUse(self._lost)


class _OnDisk:
    """The lease of filelock. A line of ours in its file says who has it; filelock skips lines that it does not know."""

    def __init__(self, files: Disk):
        self._path, self._mine = files.workdir / _FILE, _about_us()
        beat = {"lease_duration": _LEASE_SECONDS, "heartbeat_interval": _BEAT_SECONDS}
        self._lease = SoftFileLease(self._path, **beat, thread_local=False)

    @property
    def is_lost(self) -> bool:
        """Whether filelock has noticed a loss, which takes it two renewals."""
        return self._lease.compromise is not None

    def take(self) -> None:
        """Become the owner, or WorkdirInUse; OSError."""
        for _ in range(3):  # others may be quicker
            if not self._is_of_a_namesake() and self._acquire(0.0):
                return
            gone = _wait_for_death(self._path, self._read)
            if self._acquire(2 * _MOMENT):
                return
            # NFS and SMB lack the exchange of two names that filelock needs to take a lease over.
            if gone and self._read() == gone:
                self._lease.force_break()
                if self._acquire(0.0):
                    time.sleep(_MOMENT)  # another run may have looked before this one wrote, and break its lease now
                    if not self.loss():
                        return
                    self.drop()
        raise WorkdirInUse(_in_use(self._path, self._read()))

    def loss(self) -> str:
        """Why this run has the lease no more, "" if it has."""
        for _ in range(2):  # a run that looks whether a lease has expired moves it aside for a moment
            try:
                other = self._read()
            except OSError:
                other = self._mine
            if (ours := (other or {}).get("token") == self._mine["token"]) and not self.is_lost:
                return ""
            time.sleep(_MOMENT)
        return _lost(self._path, other, "could not be renewed" if ours else "was removed")

    def drop(self) -> None:
        """Leave it to others; OSError."""
        self._lease.release()

    def _acquire(self, seconds: float) -> bool:
        with contextlib.suppress(Timeout, LeaseSettingsMismatch):
            self._lease.acquire(timeout=seconds)
            try:
                with open(self._path, "a") as file:
                    file.write(f"about={json.dumps(self._mine)}\n")
            except BaseException:
                self.drop()
                raise
            return True
        return False

    def _is_of_a_namesake(self) -> bool:
        """Whether the lease is of a machine with this one's name: filelock would take its processes for our own."""
        ours, other = _place(self._mine), _place(self._read() or self._mine)
        return other != ours and other[0] == ours[0] and other[2] in ("", ours[2])  # else filelock tells containers

    def _read(self) -> dict[str, Any] | None:
        try:
            text, renewed = self._path.read_bytes(), os.stat(self._path).st_mtime_ns
        except FileNotFoundError:
            return None
        return {**(_parsed(text.rpartition(b"\nabout=")[2]) or {}), "beat": None, "renewed": renewed}


class _InBucket:
    """The file with the highest number, as JSON: written by its owner only, and {} once that has left."""

    def __init__(self, files: Bucket):
        self._files, self._mine = files, _about_us()
        self._number, self.is_lost = 0, False
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._renew, name="workdir lease", daemon=True)

    def take(self) -> None:
        for _ in range(3):  # others may be quicker
            before = max(self._numbers())
            _wait_for_death(self._path(before), functools.partial(self._read, before))
            self._number = before + 1
            created = self._files.create(self._path(self._number), json.dumps(self._mine))
            if created or self._is_ours():  # gcsfs may have tried twice
                there = self._numbers()
                if max(there) == self._number:
                    for older in there - {0, self._number}:
                        self._files.remove(self._path(older))
                    self._beat.start()
                    return
                self._files.remove(self._path(self._number))  # it was free only because others have gone past it
        raise WorkdirInUse(_in_use(self._path(before), self._read(max(self._numbers()))))

    def loss(self) -> str:
        with contextlib.suppress(OSError):
            newest = max(self._numbers())
            if newest != self._number or not self._is_ours():
                return _lost(self._path(self._number), self._read(newest) if newest > self._number else None)
        return ""

    def drop(self) -> None:
        self._stop.set()
        self._beat.join()
        if not self.loss():
            self._files.write(self._path(self._number), "{}")  # its number is not used again

    def _renew(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS) and not self.is_lost:
            with contextlib.suppress(OSError):  # a network that is down does not end a run
                if not self.loss():
                    self._files.write(self._path(self._number), json.dumps(self._mine | {"beat": time.time()}))
                else:
                    self.is_lost = True

    def _numbers(self) -> set[int]:
        names = self._files.names(self._files.workdir)
        return {0} | {int(name.partition(".")[2]) for name in names if re.fullmatch(rf"{_FILE}\.\d+", name)}

    def _path(self, number: int) -> epath.Path:
        return self._files.workdir / f"{_FILE}.{number}"

    def _read(self, number: int) -> dict[str, Any] | None:
        return _parsed(self._files.read(self._path(number)))

    def _is_ours(self) -> bool:
        return (self._read(self._number) or {}).get("token") == self._mine["token"]


def _wait_for_death(path: epath.Path, read: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return what `read` says of a run that is gone (None or {} is of no run); WorkdirInUse if it lives."""
    other = read()
    if not other:
        return other
    lives = None
    if _place(other) == _place(_about_us()) and all(_place(other)):
        lives = _started(other["pid"]) == other["started"]
    else:
        # Clocks of two machines may differ: whatever they say, a run lives if it renews its lease while we look.
        silent = max(0.0, time.time() - other["beat"]) if other["beat"] is not None else 0.0
        left = max(1.5 * _BEAT_SECONDS, _LEASE_SECONDS - silent)
        print(f"{path.parent} is locked by {_name(other)}: waiting up to {left:.0f} s for a sign of life", flush=True)
        end = time.monotonic() + left
        while lives is None and time.monotonic() < end:
            time.sleep(min(_MOMENT, _BEAT_SECONDS))
            if (now := read()) != other:
                lives, other = bool(now), now
    if lives:
        raise WorkdirInUse(_in_use(path, other))
    return other


def _in_use(path: epath.Path, other: dict[str, Any] | None) -> str:
    return (
        f"{path.parent} is in use by {_name(other)}; wait for it, or name another --workdir (if that run is gone, "
        f"remove {path})"
    )


def _lost(path: epath.Path, other: dict[str, Any] | None, what: str = "was removed") -> str:
    taken = f"was taken over by {_name(other)}" if other and what == "was removed" else f"is lost: {path} {what}"
    why = "was this run suspended, or cut off, for two minutes?"
    return f"{path.parent} {taken} ({why}); it stops, and what it has saved is there"


def _name(other: dict[str, Any] | None) -> str:
    known = other and "pid" in other
    return f"process {other['pid']} on {other['host']} since {other['since']}" if known else "another run"


def _parsed(text: bytes | None) -> dict[str, Any] | None:
    """What a lease says, {} if no run has written it, None if there is none."""
    if text is None:
        return None
    try:
        found = json.loads(text)
        return found if {"pid", "host", "boot", "started", "since", "token", "beat"} <= found.keys() else {}
    except (ValueError, AttributeError):
        return {}


def _about_us() -> dict[str, Any]:
    boot, namespace = pathlib.Path("/proc/sys/kernel/random/boot_id"), pathlib.Path("/proc/self/ns/pid")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": os.readlink(namespace) if namespace.is_symlink() else "",  # the container, so to speak
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "token": uuid.uuid4().hex,
        "beat": time.time(),
    }


def _place(about: dict[str, Any]) -> list[str | None]:
    """Where a process number means the same process. Containers may have equal host names, or a machine in common."""
    return [about.get(key) for key in ("host", "boot", "namespace")]


def _started(pid: int) -> str:
    """When a process was started, so that another one with its number is not taken for it; "" if there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]  # field 22, clock ticks since the boot
