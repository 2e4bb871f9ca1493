"""The launchers: indices of processes, their logs, exit codes and restarts."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
from tiny_run import CNNIQA, ROOT, options

SCRIPT = ["bash", str(ROOT / "launch" / "local.sh")]
WHO = """
import os
names = ("JAXIQA_COORDINATOR", "JAXIQA_NUM_PROCESSES", "JAXIQA_PROCESS_ID", "JAX_NUM_CPU_DEVICES")
print(*(os.environ[name] for name in names))
"""
WAIT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "LOGS": str(tmp_path), "PORT": "9000", "JAX_NUM_CPU_DEVICES": "2", "PAUSE": "0"}


def test_processes_know_their_index(environment, tmp_path):
    done = subprocess.run([*SCRIPT, "3", sys.executable, "-c", WHO], env=environment, capture_output=True, text=True)
    others = [(tmp_path / f"process_{i}.log").read_text() for i in (1, 2)]
    assert [done.stdout, *others] == [f"127.0.0.1:9000 3 {i} 2\n" for i in range(3)]
    assert done.stderr.startswith("== 3 processes") and str(tmp_path) in done.stderr
    assert done.returncode == 0


def test_a_signal_reaches_all(environment, tmp_path):
    run = subprocess.Popen(
        [*SCRIPT, "2", sys.executable, "-c", WAIT], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 20
    while not (tmp_path / "process_1.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=20)
    assert run.returncode == 143


@pytest.mark.parametrize("arguments", [[], ["0", "true"], ["two", "true"], ["2"]])
def test_usage(arguments):
    done = subprocess.run([*SCRIPT, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "local.sh N " in done.stderr


@pytest.fixture
def run(environment, tmp_path):
    """Call local.sh with processes that run a bash script, which can use $JAXIQA_PROCESS_ID and $attempt."""
    script = tmp_path / "one.sh"

    def call(lines: str, count: int = 2, **variables: str) -> subprocess.CompletedProcess:
        counted = tmp_path / "attempts"
        counted.mkdir(exist_ok=True)
        mine = f'file={counted}/$JAXIQA_PROCESS_ID; echo >> "$file"; attempt=$(wc -l < "$file")\n'
        script.write_text(mine + lines)
        command = [*SCRIPT, str(count), "bash", str(script)]
        return subprocess.run(
            command, env=environment | variables, capture_output=True, text=True, check=False, timeout=60
        )

    return call


def attempts(tmp_path) -> list[int]:
    return [len((tmp_path / "attempts" / str(i)).read_text()) for i in range(2)]


@pytest.mark.parametrize("code", [2, 3, 4, 5, 6])
def test_an_error_that_would_recur_ends_the_others_and_is_not_restarted(run, tmp_path, code):
    began = time.monotonic()
    done = run(f"if [ $JAXIQA_PROCESS_ID = 1 ]; then exit {code}; fi; exec sleep 50")
    assert done.returncode == code and time.monotonic() - began < 8
    assert attempts(tmp_path) == [1, 1] and "restart" not in done.stderr


def test_it_wins_over_an_exit_code_that_is_restarted(run, tmp_path):
    """In either order."""
    assert run("if [ $JAXIQA_PROCESS_ID = 0 ]; then exit 134; fi; sleep 0.5; exit 3").returncode == 3
    assert attempts(tmp_path) == [1, 1]


def test_one_that_does_not_stop_is_killed(run, tmp_path):
    began = time.monotonic()
    assert run("if [ $JAXIQA_PROCESS_ID = 1 ]; then exit 3; fi; trap '' TERM; sleep 50").returncode == 3
    assert 9 < time.monotonic() - began < 20


def test_an_abort_is_restarted(run, tmp_path):
    done = run("echo $JAXIQA_COORDINATOR; if [ $attempt = 1 ]; then exit 134; fi")
    assert (done.returncode, done.stdout) == (0, "127.0.0.1:9000\n127.0.0.1:9001\n")
    assert done.stderr.endswith("== ended with 134 134; restart 1 of 20 in 0 s\n") and attempts(tmp_path) == [2, 2]
    assert (tmp_path / "process_1.log").read_text() == "127.0.0.1:9000\n"
    assert (tmp_path / "process_1.restart_1.log").read_text() == "127.0.0.1:9001\n"


@pytest.mark.parametrize("code", [1, 75, 134, 137])
def test_restarts_are_bounded(run, tmp_path, code):
    done = run(f"if [ $JAXIQA_PROCESS_ID = 1 ]; then exit {code}; fi", RESTARTS="2")
    assert done.returncode == code and attempts(tmp_path) == [3, 3]
    assert re.findall("== .*", done.stderr)[1:] == [
        f"== ended with 0 {code}; restart 1 of 2 in 0 s",
        f"== ended with 0 {code}; restart 2 of 2 in 0 s",
        f"== ended with 0 {code}; given up after 2 restarts",
    ]


@pytest.mark.parametrize("code", [130, 143])
def test_a_run_that_stops_as_a_whole_is_not_restarted(run, tmp_path, code):
    assert run(f"exit {code}").returncode == code and attempts(tmp_path) == [1, 1]
    assert run(f"exit $((JAXIQA_PROCESS_ID ? {code} : 134))", RESTARTS="1").returncode == 134  # one alone is lost
    assert attempts(tmp_path) == [3, 3]


@pytest.mark.parametrize(("sent", "when_waiting"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_is_not_restarted(environment, tmp_path, sent, when_waiting):
    """A signal that reaches the processes, with any exit code, or that comes while a restart waits."""
    for one, variables, code in (
        ("trap 'exit 143' TERM; echo ready; while true; do sleep 0.1; done", {}, 143),
        ("trap 'exit 134' TERM; echo ready; while true; do sleep 0.1; done", {}, 134),
        ("echo ready; exit 1", {"PAUSE": "50"}, when_waiting),
    ):
        process = subprocess.Popen(
            [*SCRIPT, "2", "bash", "-c", one],
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        line = process.stderr.readline()
        if variables:
            line = process.stderr.readline()
            assert "restart 1 of 20 in 50 s" in line
        else:
            deadline = time.monotonic() + 20
            while not (tmp_path / "process_1.log").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(sent)
        rest = process.communicate(timeout=20)[1]
        assert (process.returncode, rest) == (code, "") and time.monotonic() - began < 10


def test_a_port_that_is_taken_is_passed_over(run, environment):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        done = run("echo $JAXIQA_COORDINATOR", PORT=str(port))
    assert int(done.stdout.rpartition(":")[2]) > port


def test_this_machine_is_reached_without_a_proxy(run):
    done = run("echo $no_proxy $NO_PROXY", no_proxy="example.org", NO_PROXY="")
    assert done.stdout == "example.org,127.0.0.1,localhost 127.0.0.1,localhost\n"


# ---- Slurm, with fake commands -------------------------------------------------------------------------------

SRUN = """
echo "srun $*" | head -n 1 >> calls
while [[ $1 == --* ]]; do shift; done
rm -f tasks
for i in 0 1; do
  SLURM_STEP_ID=0 SLURM_PROCID=$i env --default-signal=INT setsid "$@" &
  pids+=($!) && echo $! >> tasks
done
for pid in "${pids[@]}"; do
  wait "$pid"
  this=$?
  if [ "$this" -gt "${code:-0}" ]; then code=$this; fi
done
exit "${code:-0}"
"""
STOPPING = """
import os, pathlib, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: sys.exit(128 + number))
pathlib.Path("ready." + os.environ["SLURM_PROCID"]).touch()
time.sleep(50)
"""
SCANCEL = """
echo "scancel $*" >> calls
for pid in $(cat tasks); do kill -TERM -- -"$pid" 2>/dev/null; done
exit 0
"""


@pytest.fixture
def slurm(tmp_path):
    """Start slurm.sbatch with a script in place of python. Returns the process."""
    fakes = {"srun": SRUN, "scancel": SCANCEL, "scontrol": 'echo "scontrol $*" >> calls'}

    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/usr/bin/env bash\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    for name, text in fakes.items():
        write(tmp_path / "bin" / name, text)

    def start(program: str, restarts: int = 0) -> subprocess.Popen:
        write(tmp_path / ".venv" / "bin" / "python", program)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        command = ["bash", str(ROOT / "launch" / "slurm.sbatch"), "--workdir", "w"]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    return start


def calls(tmp_path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_slurm_tasks_find_one_another(slurm, tmp_path):
    process = slurm('echo "$@" > "args.$SLURM_PROCID"')
    assert process.wait(timeout=20) == 0
    for i in range(2):
        assert (tmp_path / f"args.{i}").read_text() == "-m jaxiqa.train --multihost --workdir w\n"
    assert len(calls(tmp_path)) == 1 and not list(tmp_path.glob("*.verdict"))


def test_slurm_does_not_restart_an_error_that_would_recur(slurm, tmp_path):
    process = slurm("if [ $SLURM_PROCID = 1 ]; then exit 3; fi; exec sleep 50")
    assert process.wait(timeout=20) == 3
    assert calls(tmp_path)[1:] == ["scancel --signal=TERM 7.0"] and not list(tmp_path.glob("*.verdict"))


@pytest.mark.parametrize("code", [1, 75, 134, 137, 143])
@pytest.mark.parametrize("restarts", [0, 19, 20])
def test_slurm_restarts_are_bounded(slurm, tmp_path, code, restarts):
    assert slurm(f"exit $((SLURM_PROCID ? {code} : 0))", restarts).wait(timeout=20) == code
    assert calls(tmp_path)[1:] == (["scontrol requeue 7"] if restarts < 20 else [])


@pytest.mark.parametrize("by", ["the time", "scancel JOB", "scancel --signal=INT JOB"])
def test_slurm_stops(slurm, tmp_path, by):
    """At the time limit only the tasks receive SIGTERM; scancel also sends it to the script."""
    process = slurm(f"exec {sys.executable} -c '{STOPPING}'")
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("ready.*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if by == "scancel JOB":
        process.send_signal(signal.SIGTERM)
    for pid in (tmp_path / "tasks").read_text().split():
        os.killpg(int(pid), signal.SIGINT if "INT" in by else signal.SIGTERM)
    assert process.wait(timeout=20) == (130 if "INT" in by else 143)
    assert calls(tmp_path)[1:] == (["scontrol requeue 7"] if by == "the time" else [])


def test_the_tpu_script_passes_multihost():
    assert "-m jaxiqa.train --multihost " in (ROOT / "launch" / "tpu_vm.sh").read_text()


@pytest.mark.slow
def test_bad_data_on_one_host_ends_the_run(pictures, environment, tmp_path):
    """Process 1 of a real run cannot read its files. The run ends with its code and is not restarted."""
    for i in range(2):
        shutil.copytree(pictures, tmp_path / f"host{i}" / "data")
    for path in (tmp_path / "host1" / "data").glob("*.png"):
        path.write_bytes(bytes(path.stat().st_size))
    changes = {"total": "4 steps", "dataset.data_dir": "data"}
    arguments = [f"--config.{key}={value}" for key, value in options(pictures, CNNIQA, **changes).items()]
    train = [sys.executable, "-m", "jaxiqa.train", "--config", CNNIQA, "--workdir", tmp_path / "run", *arguments]
    host = ["bash", "-c", f'cd {tmp_path}/host$JAXIQA_PROCESS_ID && exec "$@"', "host", *map(str, train)]
    with socket.create_server(("", 0)) as free:
        environment |= {"PORT": str(free.getsockname()[1]), "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*SCRIPT, "2", *host], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    assert "restart" not in done.stderr and "data/" in done.stderr
