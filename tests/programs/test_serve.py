"""The program jaxiqa serve: its start, an answer, its end, and what it refuses."""

import json
import re
import signal
import socket
import tomllib

import programs
import pytest
from ready_stand_in import write_stand_in
from served import ask, form, wait_for
from tiny_run import DEVICES, check_refusals

from jaxiqa.scoring.batch_scorer import BatchScorer

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_from_start_to_end(once, pictures, number, tmp_path):
    checkpoint, paths = once("ready", write_stand_in), sorted(pictures.glob("*.png"))[:3]
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    options = ["--checkpoint", checkpoint, "--batch_size=8", "--port=0", f"--token_file={tmp_path / 'token'}"]
    child = programs.start("serve", *options, env=DEVICES)
    try:
        line = child.stderr.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])
        wait_for(lambda: ask(port, "GET", "/healthz").status == 200, 120)
        body, kind = form([(path.name, path.read_bytes()) for path in paths])
        assert ask(port, "POST", "/score", body, {"Content-Type": kind}).status == 401
        answer = ask(port, "POST", "/score", body, {"Content-Type": kind, "Authorization": f"Bearer {TOKEN}"})
        expected = BatchScorer(checkpoint, batch_size=8)({"path": [str(path) for path in paths]})
        assert [row["score"] for row in answer.values["images"]] == pytest.approx(list(expected["score"]), abs=1e-5)
        child.send_signal(number)
        out, log = child.communicate(30)
    finally:
        child.kill()
    assert child.returncode == 0 and out == "" and TOKEN not in line + log
    assert not any(path.name in log for path in paths)


def test_refusals(tmp_path):
    (tmp_path / "short").write_text("abc")
    (tmp_path / "space").write_text("a token with a space in it")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        check_refusals(
            "serve",
            [
                (["--host=0.0.0.0"], 2, "--host 0.0.0.0", "JAXIQA_SERVE_TOKEN"),
                (["--host=::"], 2, "--host ::"),
                (["--host=no.such.host.invalid"], 2, "--host no.such.host.invalid"),
                ([f"--port={port}"], 2, f"--port {port}"),
                (["--port=70000"], 2, "--port"),
                ([f"--token_file={tmp_path / 'short'}"], 2, "short"),
                ([f"--token_file={tmp_path / 'space'}"], 2, "space"),
                ([f"--token_file={tmp_path / 'absent'}"], 2, "absent"),
                (["--timeout=0"], 2, "--timeout"),
                (["--checkpoint", str(tmp_path), "--port=0"], 4, str(tmp_path)),
            ],
        )


def test_the_container_has_what_its_steps_name():
    text = (programs.ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--)(.+)$", text, re.M) for word in line.split()[:-1]]
    allowed = re.findall(r"^!(.+)$", (programs.ROOT / ".dockerignore").read_text(), re.M)
    assert sorted(copied) == sorted(allowed) and all((programs.ROOT / name).exists() for name in copied)
    project = tomllib.loads((programs.ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'"\.\[(.+)\]"', text)
    assert {*extras.split(",")} <= {*project["optional-dependencies"]}
    (started,) = re.findall(r"^ENTRYPOINT (.+)$", text, re.M)
    name, program, *flags = json.loads(started)
    assert (name, program) == ("jaxiqa", "serve")
    check = programs.ROOT / "tests" / "helpers" / "check_flags.py"
    assert programs.run(check, "jaxiqa.serve", *flags, teardown=False).returncode == 0
