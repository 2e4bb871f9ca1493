"""The full counts of the fault suite, as a table: python -m tests.faults --long [R3 R5 ...]

Without --long the short forms run, as in CI: pytest tests/faults. The full counts take minutes, and R4 needs the right
to mount a tmpfs.
"""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Exit code 1 where a bar is missed."""
    wanted = [word for word in sys.argv[1:] if word != "--long"]
    if "--long" not in sys.argv:
        return subprocess.run([sys.executable, "-m", "pytest", "tests/faults", *wanted], cwd=ROOT).returncode
    cache = ROOT / ".pytest_cache" / "xla"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain reads flags
    from tests.faults.bars import BARS

    missed = 0
    print("bar | required | seen")
    for bar, required, function in BARS:
        if not wanted or bar in wanted:
            began = time.monotonic()
            try:
                seen, enough = function()
            except Exception as error:  # a bar that breaks is missed, and the others are still run
                seen, enough = f"{type(error).__name__}: {error}", False
            missed += not enough
            print(
                f"{bar} | {required} | {'' if enough else 'MISSED: '}{seen} ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
