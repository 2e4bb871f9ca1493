"""A lease on a workdir, so that only one run writes there. A run that has ended loses it after two minutes at most.

On a disk it is the file WORKDIR/lease, of `filelock`. In a bucket it is WORKDIR/lease.N: the run that creates the file
with the next number owns the workdir, and no run writes to the file of another. So a run that was suspended cannot
take back a lease that it has lost.
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
_OLD_FILE = "lock"  # the lease of version 0.1.0
_BEAT_SECONDS = 15.0  # between two renewals
_LEASE_SECONDS = 120.0  # without a renewal, another run may then take the workdir
_MOMENT = 1.0  # seconds that other runs get to finish an operation


class WorkdirLease:
    """Reserves a workdir for this run. A context manager; enter it before anything is written.

    The lease of a run that has ended is taken over. If the process was on this machine, that happens at once. If it was
    on another machine, in a container or before a reboot, this run waits until the lease is two minutes without a
    renewal. If many runs try at once, one of them gets the lease. The `lock` of a live run of version 0.1.0 counts as a
    lease.

    Args:
      workdir: folder of the run; it is created.
      held: False on the processes of a run that leave the lease to process 0; then nothing is done.

    Raises:
      WorkdirInUse: on entering, another run has the workdir; the message names its process, machine and start time. On
        leaving, another run has taken the workdir.
      ConfigError: the workdir cannot be written.
      DiskFull: the disk is full.
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
                try:
                    self._files.remove(old)
                except BaseException:  # the lease is renewed as long as this process lives
                    self._claim.drop()
                    raise
        except OSError as error:
            raise unwritable(self._files.workdir, error) from error
        return self

    def check(self) -> None:
        """Check the lease; call it before the run writes. It reads the file at most once in 15 s, so call it each step.

        Raises:
          WorkdirInUse: the lease is lost, because this process was suspended or cut off from the workdir.
        """
        now = time.time()  # before the file is read, because this process may be suspended at any moment
        unseen = abs(now - self._looked)
        if self._held and not self._lost and (self._claim.is_lost or unseen > _BEAT_SECONDS):
            if unseen > _LEASE_SECONDS - 2 * _BEAT_SECONDS:
                time.sleep(_MOMENT)  # if it has expired, another run may still take it before it is renewed
            self._lost, self._looked = self._claim.loss(), now
        if self._lost:
            raise WorkdirInUse(self._lost)

    def __exit__(self, kind, *_):
        if self._held:
            self._lost = self._lost or self._claim.loss()
            with contextlib.suppress(OSError):  # a lease that cannot be removed expires
                self._claim.drop()
            if self._lost and kind is None:
                raise WorkdirInUse(self._lost)


class _OnDisk:
    """The lease of filelock, which has a token. We add a line that names the owner; filelock skips unknown lines."""

    def __init__(self, files: Disk):
        self._path, self._mine = files.workdir / _FILE, _about_us()
        beat = {"lease_duration": _LEASE_SECONDS, "heartbeat_interval": _BEAT_SECONDS}
        self._lease = SoftFileLease(self._path, **beat, thread_local=False)

    @property
    def is_lost(self) -> bool:
        """Whether filelock has noticed that the lease is lost. It notices after two renewals."""
        return self._lease.compromise is not None

    def take(self) -> None:
        """Take the lease. Raises WorkdirInUse, or OSError if the disk fails."""
        for _ in range(3):  # another run may be faster
            if not self._has_our_host_name() and self._acquire(0.0):
                return
            gone = _wait_for_death(self._path, self._read)
            if self._acquire(2 * _MOMENT):
                return
            # NFS and SMB cannot exchange two file names, which filelock needs to take over a lease.
            if gone and self._read() == gone:
                self._lease.force_break()
                if self._acquire(0.0):
                    time.sleep(_MOMENT)  # another run may have read the old lease, and break the new one now
                    if not self.loss():
                        return
                    self.drop()
        raise WorkdirInUse(_in_use(self._path, self._read()))

    def loss(self) -> str:
        """Why this run has lost the lease; "" if it still has it."""
        for _ in range(2):  # a run that checks whether a lease has expired moves it away for a moment
            try:
                other = self._read()
            except OSError:
                other = {"token": self._lease.token}
            if (ours := (other or {}).get("token") == (self._lease.token or "")) and not self.is_lost:
                return ""
            time.sleep(_MOMENT)
        return _lost(self._path, other, "could not be renewed" if ours else "was removed")

    def drop(self) -> None:
        """Release the lease. Raises OSError if the disk fails."""
        self._lease.release()

    def _acquire(self, seconds: float) -> bool:
        with contextlib.suppress(Timeout, LeaseSettingsMismatch):
            self._lease.acquire(timeout=seconds)
            try:
                with contextlib.suppress(FileNotFoundError), open(self._path, "r+") as file:  # moved away: no name
                    file.seek(0, os.SEEK_END)
                    file.write(f"about={json.dumps(self._mine)}\n")
            except BaseException:
                self.drop()
                raise
            return True
        return False

    def _has_our_host_name(self) -> bool:
        """Whether the lease is of another machine with our host name, which filelock would take for this one."""
        ours, other = _place(self._mine), _place(self._read() or self._mine)
        return other != ours and other[0] == ours[0] and other[2] in ("", ours[2])  # else filelock decides

    def _read(self) -> dict[str, Any] | None:
        try:
            text, renewed = self._path.read_bytes(), os.stat(self._path).st_mtime_ns
        except FileNotFoundError:
            return None
        token = re.search(rb"^token=(\w+)$", text, re.MULTILINE)
        about = _parsed(text.rpartition(b"\nabout=")[2]) or {}
        return {**about, "token": token and token[1].decode(), "beat": None, "renewed": renewed}


class _InBucket:
    """The lease file with the highest number, as JSON. Only its owner writes it, and leaves {} at the end."""

    def __init__(self, files: Bucket):
        self._files, self._mine = files, _about_us()
        self._number, self.is_lost = 0, False
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._renew, name="workdir lease", daemon=True)

    def take(self) -> None:
        for _ in range(3):  # another run may be faster
            before = max(self._numbers())
            _wait_for_death(self._path(before), functools.partial(self._read, before))
            self._number = before + 1
            mine = json.dumps(self._mine | {"beat": time.time()})
            created = self._files.create(self._path(self._number), mine)
            if created or self._is_ours():  # gcsfs may have sent the request twice
                there = self._numbers()
                if max(there) == self._number:
                    for older in there - {0, self._number}:
                        self._files.remove(self._path(older))
                    self._beat.start()
                    return
                self._files.remove(self._path(self._number))  # the number was free only because others are past it
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
            self._files.write(self._path(self._number), "{}")  # the file stays, so that its number is not used again

    def _renew(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS) and not self.is_lost:
            with contextlib.suppress(OSError):  # a network failure does not end the run
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
    """Wait until the run of a lease is known to have ended. Returns its lease from `read` (None or {}: no run).

    Raises:
      WorkdirInUse: the run is alive.
    """
    other = read()
    if not other:
        return other
    lives = None
    if _place(other) == _place(_about_us()) and all(_place(other)):
        lives = _started(other["pid"]) == other["started"]
    else:
        # The clocks of two machines may differ. A run that renews its lease while we wait is alive in any case.
        silent = max(0.0, time.time() - other["beat"]) if other["beat"] is not None else 0.0
        left = max(1.5 * _BEAT_SECONDS, _LEASE_SECONDS - silent)
        print(f"{path.parent} is in use by {_name(other)}; waiting up to {left:.0f} s to see if it lives", flush=True)
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
        f"{path.parent} is in use by {_name(other)}; wait for it, or name another --workdir (if that run has ended, "
        f"remove {path})"
    )


def _lost(path: epath.Path, other: dict[str, Any] | None, what: str = "was removed") -> str:
    taken = f"{path.parent} was taken over by {_name(other)}"
    lost = taken if other and what == "was removed" else f"the lease on {path.parent} is lost: {path} {what}"
    why = "was this run suspended or cut off for two minutes?"
    return f"{lost} ({why}); this run stops, its saved steps are kept"


def _name(other: dict[str, Any] | None) -> str:
    known = other and "pid" in other
    return f"process {other['pid']} on {other['host']} since {other['since']}" if known else "another run"


def _parsed(text: bytes | None) -> dict[str, Any] | None:
    """Returns the content of a lease: {} if the text is not from a run, None if the file does not exist."""
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
        "namespace": os.readlink(namespace) if namespace.is_symlink() else "",  # differs between containers
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "token": uuid.uuid4().hex,
        "beat": time.time(),
    }


def _place(about: dict[str, Any]) -> list[str | None]:
    """What identifies the process namespace: containers may share a host name or a machine."""
    return [about.get(key) for key in ("host", "boot", "namespace")]


def _started(pid: int) -> str:
    """When a process was started, which tells it from a later one with its number; "" if there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]  # field 22, clock ticks since the boot
