"""Programs that are forks of a server (programs.py) behave like new processes."""

import os
import signal
import subprocess
import sys
import time

import programs
import pytest

ABOUT = """
import atexit, json, os, signal, sys, threading
import jax
atexit.register(print, "the end")
handlers = {s.name for s in signal.Signals if signal.getsignal(s) not in (signal.SIG_DFL, None)}
about = {
    "name": __name__,
    "argv": sys.argv,
    "path": sys.path[0],
    "folder": os.getcwd(),
    "variable": os.environ.get("VARIABLE"),
    "threads": threading.active_count(),
    "files": len(os.listdir("/proc/self/fd")),
    "handlers": sorted(handlers),
    "leads": os.getsid(0) == os.getpid(),
    "programs": sorted(name for name in sys.modules if name in ("jaxiqa.train", "jaxiqa.score", "jaxiqa.program")),
    "devices": len(jax.devices()),
}
print(json.dumps(about, indent=1))
print("an error", file=sys.stderr)
sys.exit("ends with 1")
"""


@pytest.fixture
def script(tmp_path):
    def write(text: str):
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


def test_it_is_like_a_cold_start(script, tmp_path):
    """Streams, exit code, files, signal handlers, environment, devices of JAX, exit functions."""
    path, environment = script(ABOUT), {"VARIABLE": "ä", "JAX_NUM_CPU_DEVICES": "3"}
    ours = programs.run(path, "--one", "two words", env=environment, cwd=tmp_path)
    cold = subprocess.run(
        [sys.executable, path, "--one", "two words"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    assert '"devices": 3' in cold.stdout
    assert (ours.returncode, ours.stdout, ours.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert ours.stderr == "an error\nends with 1\n" and ours.stdout.endswith("the end\n")


def test_a_module_runs_as_by_python_m():
    """It has its own flags, although another child has defined those of another program."""
    for name in ("score", "evaluate"):
        done = programs.run(name, "--help")
        cold = subprocess.run(
            [sys.executable, "-m", f"jaxiqa.{name}", "--help"], cwd=programs.ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_an_exception(script):
    done = programs.run(script("raise KeyError('x')"))
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and done.stderr.endswith("KeyError: 'x'\n")


WAITING = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_ends_it(script, number):
    child = programs.start(script(WAITING))
    assert child.poll() is None and child.stdout.readline() == "ready\n"
    child.send_signal(number)
    _, error = child.communicate(10)
    assert child.returncode == child.wait() == -number and ("KeyboardInterrupt" in error) == (number == signal.SIGINT)
    child.kill()  # has no effect on a process that has ended


def test_it_is_killed_after_the_timeout(script):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run(script(WAITING), timeout=0.5)
    assert time.monotonic() - began < 10


def test_its_output_can_be_reconfigured(script):
    """Python refuses this if it takes a pipe for a file."""
    lines = "import sys\nfor s in (sys.stdout, sys.stderr):\n    s.reconfigure(errors='ignore')\n    print(1, file=s)\n"
    done = programs.run(script(lines))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "1\n")


def test_two_at_a_time(script, tmp_path):
    both = script("print(input())")
    first, second = (programs.start(both, stderr=subprocess.STDOUT) for _ in range(2))
    assert first.pid != second.pid
    assert "EOFError" in second.communicate()[0] and "EOFError" in first.communicate()[0]


def test_files_have_a_limit(script, tmp_path):
    lines = "import sys\nprint('x' * 100_000)\nwith open(sys.argv[1], 'wb') as file:\n    file.write(bytes(1001))\n"
    done = programs.run(script(lines), tmp_path / "file", file_limit=1000)
    assert len(done.stdout) == 100_001  # standard output is not a file
    assert "File too large" in done.stderr and (tmp_path / "file").stat().st_size == 1000


def test_the_server_ends_with_its_user(script):
    lines = (
        f"import sys\nsys.path.insert(0, {str(programs.HERE)!r})\nimport programs\n"
        f"child = programs.start({str(script(WAITING))!r})\nchild.stdout.readline()\nprint(child.pid)\n"
    )
    user = subprocess.run([sys.executable, "-c", lines], cwd=programs.ROOT, capture_output=True, text=True, check=True)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{int(user.stdout)}/cmdline"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
