"""Rounds of training on the tiny folder, killed and continued; tables; refusals."""

import csv
import json
import os
import signal
import subprocess
import time

import programs
import pytest
from hosts import Hosts
from tiny_run import CNNIQA, CONFIG, DEVICES, check_refusals, options, run_program


def command(workdir, pictures, *more):
    small = [f"--config.{key}={value}" for key, value in options(pictures, CNNIQA).items()]
    return ["--config", str(CNNIQA), "--workdir", str(workdir), "--rounds", "1", *more, "--", *small]


@pytest.mark.slow
def test_rounds(pictures, tmp_path):
    """Killed in the second run, the same command finishes. Both rules and another dataset are in the table."""
    more = ("--selection", "val,legacy", "--cross", f"folder={pictures}")  # the same images serve as another dataset
    first = programs.start("protocol", *command(tmp_path, pictures, *more), env=DEVICES, stderr=subprocess.STDOUT)
    while not (tmp_path / "cnniqa_live/legacy/round_01/metrics.jsonl").exists() and first.poll() is None:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    finished = tmp_path / "cnniqa_live/val/round_01/report.json"
    before = finished.stat().st_mtime_ns
    again = run_program("protocol", *command(tmp_path, pictures, *more))
    assert again.returncode == 0, again.stdout + again.stderr
    assert finished.stat().st_mtime_ns == before
    result = json.loads((tmp_path / "protocol.json").read_text())
    rounds = [(r["selection"], r["round"], r["part"], r["seed"]) for r in result["rounds"] if r["part"] == "test"]
    assert sorted(rounds) == [("legacy", 1, "test", 12345), ("val", 1, "test", 12345)]
    fingerprints = {r["split_fingerprint"] for r in result["rounds"] if r["part"] == "test"}
    assert len(fingerprints) == 2  # legacy trains on more
    with open(tmp_path / "protocol.csv") as file:
        table = [(row["row"], row["selection"], row["target"], row["rounds"]) for row in csv.DictReader(file)]
    other = f"folder_{pictures.name}"
    assert table == [("cnniqa_live", s, t, "1") for t in ("folder", other) for s in ("val", "legacy")]
    assert "| cnniqa_live | legacy " in again.stdout and (tmp_path / "rounds.png").stat().st_size > 5000
    damaged = tmp_path / f"cnniqa_live/val/round_01/evaluation/{other}/report.json"
    whole = json.loads(damaged.read_text())
    damaged.write_text("{")
    third = run_program("protocol", *command(tmp_path, pictures, *more))
    assert third.returncode == 0 and f"warning: {damaged}" in third.stdout and json.loads(damaged.read_text()) == whole


@pytest.mark.slow
def test_two_processes(pictures, tmp_path):
    """Both train in the one round; process 0 writes the tables."""
    with Hosts("protocol", command(tmp_path, pictures, "--selection", "val"), 2, 2) as hosts:
        assert hosts.wait() == [0, 0], [hosts.output(i) for i in range(2)]
        assert "protocol.md" in hosts.output(0) and "protocol.md" not in hosts.output(1)
    (cell,) = json.loads((tmp_path / "protocol.json").read_text())["rounds"]
    assert (cell["selection"], cell["round"], cell["seed"]) == ("val", 1, 12345)


def test_refusals(tmp_path):
    config = ("--config", str(CONFIG))
    run = [*config, "--workdir", tmp_path]
    cases = [
        ([], 2, "--config"),
        ([*config], 2, "--workdir"),
        (["--config", "configs/no.py", "--workdir", tmp_path], 2, "configs/no.py", "No such file"),
        ([*config, *run], 2, f"--config {CONFIG}", "twice"),
        ([*run, "--selection", "best"], 2, '--selection "best"', "val", "legacy"),
        ([*run, "--selection="], 2, '--selection ""', "val", "legacy"),
        ([*run, "--config.seed=1"], 2, "-- --config.seed"),
        ([*run, "--cross", "tid2013"], 2, "--cross tid2013", "DATASET=FOLDER"),
        ([*run, "--cross", "tid213=/x"], 2, "tid213", '"tid2013"'),
        ([*run, "--cross", "folder=a/x", "--cross", "folder=b/x"], 2, "--cross", "folder_x", "twice"),
        ([*run, "--", "seed=1"], 2, '"seed=1"', "--config.KEY=VALUE"),
        ([*run, "--multihost"], 2, "--multihost", "--coordinator"),
    ]
    check_refusals("protocol", cases)


def test_a_run_that_fails_ends_it_with_the_same_code(pictures, tmp_path):
    failed = run_program("protocol", "--config", CONFIG, "--workdir", tmp_path, "--", "--config.dataset.data_dir=/no")
    trained, own = failed.stderr.strip().splitlines()
    assert failed.returncode == 3 and trained.startswith("jaxiqa train: ") and "/no" in trained
    assert own.startswith("jaxiqa protocol: ") and "3" in own


def test_rows_of_an_ablation(tmp_path):
    script = tmp_path / "rows.py"
    script.write_text(
        "import json, sys; from jaxiqa.protocol import find_rows; print(json.dumps(find_rows([sys.argv[1]])))"
    )

    def rows(config):
        done = programs.run(script, config)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    path = "configs/mfen_ablations.py"
    assert rows(path)["mfen_ablations_qen"] == f"{path}:qen" and len(rows(path)) == 9
    assert rows(f"{path}:tid2013")["mfen_ablations_full_tid2013"] == f"{path}:full,tid2013"
    assert rows(f"{path}:full,tid2013") == {"mfen_ablations_full_tid2013": f"{path}:full,tid2013"}
