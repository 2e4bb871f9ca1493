"""Where the time of a run went: training, data, saves, evaluations, compilation; and the memory it took."""

import collections
import contextlib
import json
import resource
import sys
import time

import jax
from etils import epath

from jaxiqa.runs.bucket import files_of

_COMPILING = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")
_SHOWN = {"compilation": "compile", "data": "data_wait", "saves": "save_blocked", "evaluation": "evaluation"}
_STEP = "jit(train_step)"  # what JAX calls the training step


class Timing:
    """Time of a run in this process, from here on. A context manager. All of it is the host's own: the device is never
    waited for.

    The host runs ahead of the device, so that waiting for data is lost time only in part: while the host waits, the
    device may still be busy with the step before.
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
        """The loop begins; what comes before is preparation."""
        self._loop, self._in_loop = time.monotonic(), self._seconds.total()

    @contextlib.contextmanager
    def timed(self, what: str):
        """Count the time inside as "data", "save" or "evaluation"; without what is compiled there."""
        began, compiled = time.monotonic(), self._seconds.total()
        try:
            yield
        finally:
            self._spent[what] += time.monotonic() - began - (self._seconds.total() - compiled)
            self.steps += what == "data"

    def summary(self) -> dict[str, float]:
        """Seconds, counts and bytes; "goodput" is the share of the wall time that went into training steps."""
        now = time.monotonic()
        wall, loop = now - self._began, now - (self._loop or now)
        compiled = self._seconds.total()
        inside = compiled - self._in_loop if self._loop else 0.0
        training = max(0.0, loop - self._spent.total() - inside)
        # Linux tells kB, macOS bytes.
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
        """ledger.json, and a line of it; `skipped` says how many steps changed nothing."""
        found = self.summary() | ({"skipped_steps": skipped} if skipped else {})
        if jax.process_index() == 0:
            with contextlib.suppress(OSError):  # a full disk has been reported
                files_of(workdir).write(workdir / "ledger.json", json.dumps(found, indent=1) + "\n")
        parts = [
            f"{self.steps} steps in {found['wall_seconds']:.1f} s: {found['goodput']:.0%} training",
            *(f"{what} {found[f'{name}_seconds']:.1f} s" for what, name in _SHOWN.items()),
        ]
        print(
            f"{', '.join(parts)}; the step was compiled again {found['step_recompiled']} times; memory "
            f"{found['peak_memory_bytes'] / 2**30:.2f} GiB at most",
            flush=True,
        )
        if skipped:
            print(f"{skipped} steps were skipped: their loss or gradient was NaN, infinite or a spike", flush=True)
