"""The time of a run by purpose (training, data, saves, evaluations, compilation), and its memory."""

import collections
import contextlib
import resource
import sys
import time

import jax
from etils import epath

from jaxiqa.files import json_text
from jaxiqa.runs.bucket import files_of

_COMPILING = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")
_SHOWN = {"compilation": "compile", "data": "data_wait", "saves": "save_blocked", "evaluation": "evaluation"}
_STEP = "jit(train_step)"  # what JAX calls the training step


class Timing:
    """The time of a run in this process, from the construction on. A context manager.

    All times are measured on the host, which never waits for the device. The host runs ahead: while it waits for data,
    the device may still be busy with the step before. So only a part of that time is lost.
    """

    def __init__(self):
        self._began, self._loop = time.monotonic(), None
        self._spent: collections.Counter = collections.Counter()
        self._seconds: collections.Counter = collections.Counter()  # of compilation, by function
        self._times: collections.Counter = collections.Counter()
        self._in_loop = 0.0  # compilation before the loop
        self.steps = 0

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._note)
        return self

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._note)

    def _note(self, event: str, seconds: float, fun_name: str = "", **_) -> None:
        if event in _COMPILING:
            self._seconds[fun_name] += seconds
            self._times[fun_name] += event == _COMPILING[1]

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def start_loop(self) -> None:
        """Mark the beginning of the loop. The time before counts as preparation."""
        self._loop, self._in_loop = time.monotonic(), self._seconds.total()

    @contextlib.contextmanager
    def timed(self, what: str):
        """Count the time inside as "data", "save" or "evaluation", without compilation."""
        began, compiled = time.monotonic(), self._seconds.total()
        try:
            yield
        finally:
            self._spent[what] += time.monotonic() - began - (self._seconds.total() - compiled)
            self.steps += what == "data"

    def summary(self) -> dict[str, float]:
        """Seconds, counts and bytes. "goodput" is the share of the wall time that training steps took."""
        now = time.monotonic()
        wall, loop = now - self._began, now - (self._loop or now)
        compiled = self._seconds.total()
        inside = compiled - self._in_loop if self._loop else 0.0
        training = max(0.0, loop - self._spent.total() - inside)
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        peaks = [(d.memory_stats() or {}).get("peak_bytes_in_use") for d in jax.local_devices()]
        return {
            "steps": self.steps,
            "wall_seconds": wall,
            "training_seconds": training,
            "goodput": training / wall,
            "compile_seconds": compiled,
            "data_wait_seconds": self._spent["data"],
            "save_blocked_seconds": self._spent["save"],
            "evaluation_seconds": self._spent["evaluation"],
            "programs_compiled": self._times.total(),
            "step_recompiled": max(0, self._times[_STEP] - 1),
            "peak_memory_bytes": memory,
            **({"peak_device_bytes": max(peaks)} if all(peaks) else {}),
        }

    def write(self, workdir: epath.Path, skipped: int = 0) -> None:
        """Write ledger.json and print its summary. `skipped` is the number of steps that changed nothing."""
        found = self.summary() | ({"skipped_steps": skipped} if skipped else {})
        if jax.process_index() == 0:
            with contextlib.suppress(OSError):  # a full disk is reported elsewhere
                files_of(workdir).write(workdir / "ledger.json", json_text(found, 1) + "\n")
        parts = [
            f"{self.steps} steps in {found['wall_seconds']:.1f} s: {found['goodput']:.0%} training",
            *(f"{what} {found[f'{name}_seconds']:.1f} s" for what, name in _SHOWN.items()),
        ]
        print(
            f"{', '.join(parts)}; step recompilations: {found['step_recompiled']}; peak memory "
            f"{found['peak_memory_bytes'] / 2**30:.2f} GiB",
            flush=True,
        )
        if skipped:
            print(f"{skipped} steps were skipped: their loss or gradient was NaN, infinite or a spike", flush=True)
