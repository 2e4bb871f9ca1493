"""convert --push, and checkpoints at hf://..., with a hub on this machine."""

import json

import programs
import pytest
from etils import epath
from fake_hub import fake_hub
from ready_stand_in import CARD, write_stand_in
from tiny_run import DEVICES

from jaxiqa.runs.checkpoint import Saved

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")


@pytest.fixture(scope="module")
def pushed(once, tmp_path_factory):
    """A hub with a checkpoint: the hub, run(program, *arguments, **variables), and what convert --push wrote."""
    folder = tmp_path_factory.mktemp("hub")
    with fake_hub() as hub:

        def run(name, *arguments, **variables):
            env = {**DEVICES, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_0", **variables}
            return programs.run(name, *arguments, env=env, cwd=folder)

        run_push = ("convert", "--source", once("ready", write_stand_in), "--push", "owner/small")
        yield hub, run, run(*run_push, "--licence=Apache-2.0")


def test_push(pushed, once):
    hub, _, done = pushed
    assert done.returncode == 0, done.stderr
    ((commit, files),) = hub.repos["owner/small"].items()
    assert f"hf://owner/small@{commit}" in done.stdout and Saved(once("ready", write_stand_in)).digest() in done.stdout
    assert set(files) == {"model.safetensors", "jaxiqa.json", "README.md"} and hub.private == ["owner/small"]
    about = json.loads(files["jaxiqa.json"])
    assert about["meta"]["card"] == CARD.to_dict() and about["meta"]["config"] == {}
    assert files["README.md"].startswith(b"---\nlicense: apache-2.0\n")


@pytest.mark.slow
def test_a_checkpoint_of_a_hub_scores_as_its_source(pushed, pictures, once):
    hub, run, _ = pushed
    image = str(next(epath.Path(pictures).glob("*.png")))
    expected = run("score", "--checkpoint", once("ready", write_stand_in), image)
    hub.asked.clear()
    done = run("score", "--checkpoint=hf://owner/small", image)
    assert done.returncode == 0 and done.stdout == expected.stdout, done.stderr
    asked = {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line}
    assert asked == {"model.safetensors", "jaxiqa.json"}
    (commit,) = hub.repos["owner/small"]
    hub.asked.clear()
    for name in ("hf://owner/small", f"hf://owner/small@{commit}"):
        offline = run("score", "--checkpoint", name, image, HF_HUB_OFFLINE="1")
        assert offline.returncode == 0 and offline.stdout == expected.stdout and hub.asked == [], offline.stderr


@pytest.mark.parametrize(
    "name, variables",
    [
        ("hf://owner/absent", {}),
        ("hf://owner/small@absent", {}),
        ("hf://owner/small@" + "0" * 40, {"HF_HUB_OFFLINE": "1"}),
        ("hf://owner/other", {}),
        ("hf://owner/cut", {}),
    ],
)
def test_what_cannot_be_loaded_is_one_line(pushed, name, variables, pictures):
    hub, run, _ = pushed
    files = list(hub.repos["owner/small"].values())[-1]
    hub.commit("owner/other", {"README.md": b"another library", "pytorch_model.bin": b"\x80\4."})
    hub.commit("owner/cut", {**files, "model.safetensors": files["model.safetensors"][:-4]})
    done = run("score", "--checkpoint", name, pictures, **variables)
    lines = [line for line in done.stderr.splitlines() if line.startswith("jaxiqa score: ")]
    assert done.returncode == 4 and done.stdout == "" and len(lines) == 1 and "Traceback" not in done.stderr, (
        done.stderr
    )


def test_a_push_needs_a_licence_and_an_answer(pushed, once):
    _, run, _ = pushed
    push = ("convert", "--source", once("ready", write_stand_in), "--push")
    for arguments, variables in (
        (("owner/small",), {}),
        (("owner", "--licence=MIT"), {}),
        (("owner/small", "--licence=MIT"), {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        (("owner/small", "--licence=MIT"), {"HF_TOKEN": ""}),
    ):
        done = run(*push, *arguments, **variables)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_push_of_a_run_tells_its_result_and_no_folder(pushed, trained, pictures):
    hub, run, _ = pushed
    workdir, metrics = trained
    done = run("convert", "--source", str(workdir), "--push=owner/run", "--licence=MIT")
    assert done.returncode == 0, done.stderr
    ((commit, files),) = hub.repos["owner/run"].items()
    about = json.loads(files["jaxiqa.json"])
    assert about["step"] == Saved(workdir).step and about["meta"]["config"] == {}
    for text in (files["jaxiqa.json"].decode(), files["README.md"].decode()):
        assert str(workdir) not in text and str(pictures) not in text
    assert f"SRCC {metrics['srcc']:.4f}" in files["README.md"].decode()
    image = str(next(epath.Path(pictures).glob("*.png")))
    scores = [
        run("score", "--checkpoint", name, image).stdout.splitlines()[1].split(",")[1:3]
        for name in (str(workdir), f"hf://owner/run@{commit}")
    ]
    assert [float(x) for x in scores[0]] == pytest.approx([float(x) for x in scores[1]], abs=1e-5)
