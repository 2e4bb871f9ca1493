"""The documents: links, commands, code and the notebook.

Every command of ours in a document is parsed by its program's own flags. A fenced block of README.md and of the manual
is also run, in the order of the pages, unless it holds a line "# not run by our tests: REASON". Paths of a reader and
long runs are replaced by small ones.
"""

import ast
import io
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import jax.numpy as jnp
import numpy as np
import programs
import pytest
from PIL import Image
from programs import ROOT
from tiny_run import options, write_pictures, write_pristine

from jaxiqa import cli

MANUAL = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in re.findall(r"(\w+\.md)", (ROOT / "mkdocs.yml").read_text())),
]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "launch" / "README.md"]
SOURCES = sorted(
    path
    for path in [
        *(ROOT / "jaxiqa").glob("*.py"),
        *(ROOT / "jaxiqa" / "aot").glob("*.py"),
        *(ROOT / "configs").glob("*.py"),
    ]
    if re.search(r"^ *(python -m jaxiqa\.|jaxiqa )", ast.get_docstring(ast.parse(path.read_text())) or "", re.M)
)
PROGRAMS = {name for names in cli.GROUPS.values() for name in names}
CHECK = ROOT / "tests" / "helpers" / "check_flags.py"
UNRUN = "# not run by our tests: "
OURS = re.compile(
    r"(\S+=\S+ )*((\.venv/bin/)?jaxiqa |(\S*/)?python -m (jaxiqa|tests|pip)\b|bash launch/|sbatch |kubectl )"
)
# What stands for a value in a command, and a value.
PLACEHOLDERS = {
    "$SEED": "1", "$ROUND": "2", "$ROW": "full", "$MODE": "random", "$CONFIG": "glintiqa_kadid10k", "$SLICE": "v5e:4x4",
    "$BATCH": "512", "CONFIG": "glintiqa_kadid10k", "$FOLDER": "/path/to/folder", "$KADID": "/path/to/kadid10k",
}  # fmt: skip
# What of a documented run is changed so that it takes seconds.
SHORT = [f"--config.{key}={value}" for key, value in options("").items() if not key.startswith("dataset.")]
SHORT_PRETRAINING = ["total=4 steps", "batch_size=16", "eval_batch_size=64", "probe_pictures=4"]
SHORT_PRETRAINING = [f"--config.{text}" for text in [*SHORT_PRETRAINING, "eval_every=2 steps", "save_every=2 steps"]]


def blocks(path: pathlib.Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of a document, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S)


def commands(text: str) -> list[list[str]]:
    """The words of every command of ours in a text, with values for placeholders."""
    lines = (line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines())
    found = []
    for line in filter(OURS.match, lines):
        for name, value in PLACEHOLDERS.items():
            line = line.replace(name, value)
        found.append([word for word in shlex.split(line, comments=True) if word != "..."])
    return found


def commands_of(path: pathlib.Path) -> list[list[str]]:
    """All commands of a document, in blocks and within sentences, or of the docstring of a source."""
    if path.suffix == ".py":
        return commands(ast.get_docstring(ast.parse(path.read_text())))
    text = path.read_text()
    within = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return [*(c for _, block in blocks(path) for c in commands(block)), *(c for span in within for c in commands(span))]


def calls(words: list[str]) -> list[tuple[str, list[str]]]:
    """(program, arguments) of all programs of ours that a command starts."""
    while "=" in words[0]:
        words = words[1:]
    name, rest = words[0], words[1:]
    if name.endswith("python") and rest[1].startswith("jaxiqa."):
        module = rest[1].removeprefix("jaxiqa.")
        name, rest = "jaxiqa", [*(p for p in PROGRAMS if cli.module_of(p) == module), *rest[2:]]
    if name.endswith("jaxiqa"):
        if not rest or rest[0] == "NAME":
            return []
        program, (arguments, _, training) = rest[0], split_at(rest[1:])
        return [(program, arguments), *([("train", [*configs(arguments), *training])] if training else [])]
    script = next((word for word in words if word.startswith("launch/")), "")
    assert not script or (ROOT / script).exists(), script
    after = words[words.index(script) + 1 :] if script else []
    if script.endswith("local.sh"):
        return calls(after[1:]) if after and after[0].isdigit() else []
    if script.endswith(("slurm.sbatch", "tpu_vm.sh")):
        return [("train", after)] if after and after[0].startswith("--") else []
    if script.endswith("quickstart.sh"):
        return [("train", ["--config", "glintiqa_sample", *after])]
    return []


def split_at(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What is before "--", "--", and what is after it."""
    where = words.index("--") if "--" in words else len(words)
    return words[:where], words[where : where + 1], words[where + 1 :]


def configs(arguments: list[str]) -> list[str]:
    """--config with its value."""
    where = arguments.index("--config")
    return arguments[where : where + 2]


def full_module(program: str) -> str:
    """What `jaxiqa PROGRAM` runs."""
    assert program in PROGRAMS, f"there is no program {program}"
    package = (ROOT / "jaxiqa" / program).is_dir()
    return f"jaxiqa.{cli.module_of(program)}{'.__main__' if package else ''}"


@pytest.mark.parametrize("path", [*MANUAL, *OTHERS, *SOURCES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_has_the_flags_of_its_program(path):
    for words in commands_of(path):
        for program, arguments in calls(words):
            done = programs.run(CHECK, full_module(program), *arguments, teardown=False)
            assert done.returncode == 0, (words, done.stderr)


def test_the_search_for_commands_finds_them():
    """The check above is worth what it finds."""
    found = [program for path in MANUAL for words in commands_of(path) for program, _ in calls(words)]
    sources = [program for path in SOURCES for words in commands_of(path) for program, _ in calls(words)]
    assert {*found} == {*sources} == PROGRAMS and min(len(found), len(sources)) > 40


@pytest.mark.parametrize("path", [*MANUAL, *OTHERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(MANUAL[:1], marks=pytest.mark.slow, id="README"),
        pytest.param(MANUAL, marks=pytest.mark.release, id="manual"),
    ],
)
def test_documented_commands_and_code_run(pages, tmp_path, monkeypatch, images):
    """Every unmarked block of the pages, in their order, in one folder. A repeated command runs once."""
    writers = {"rated": write_rated, "other": write_pictures, "pristine": write_pristine, "ratings": write_ratings}
    for name, write in writers.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    (tmp_path / "folder").symlink_to("pristine")
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    real = {f"/path/to/{name}": name for name in ("other", "pristine", "ratings")} | {"/path/to/folder": "rated"}
    monkeypatch.chdir(tmp_path)
    ran = []
    for path in pages:
        for language, text in blocks(path):
            if UNRUN in text:
                continue
            for shown, name in real.items():
                text = text.replace(shown, str(tmp_path / name))
            text = text.replace("workdir/quickstart", "workdir/mine")
            if language == "python":
                exec(compile(text, str(path), "exec"), {"images": images})
            for words in commands(text):
                if words in ran:
                    continue
                program, arguments = shortened(words)
                done = programs.run(cli.module_of(program), *arguments, cwd=tmp_path)
                assert done.returncode == 0, (path.name, words, done.stdout, done.stderr)
                ran.append(words)
    if pages == MANUAL:
        not_run = {"transfer", "aot", "benchmark", "probe", "serve"}  # need data, a compiler or minutes, or do not end
        assert {words[1] for words in ran} == PROGRAMS - not_run
    assert len(ran) > 5


def write_rated(folder: pathlib.Path) -> None:
    """Rated images with a content each, so that the test part has the three contents that `compare` needs."""
    write_pictures(folder)
    head, *rows = (folder / "index.csv").read_text().splitlines()
    rows = [re.sub(r"content\d+", f"content{i}", row) for i, row in enumerate(rows)]
    (folder / "index.csv").write_text("\n".join([head, *rows]) + "\n")


def write_ratings(folder: pathlib.Path) -> None:
    """24 rated images of 12 contents, as jaxiqa calibrate needs them."""
    rng, rows = np.random.default_rng(0), ["path,mos,content"]
    for i in range(24):
        sigma = rng.uniform(5, 60)
        noise = np.clip(rng.normal(128, sigma, (100, 100, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{5 - sigma / 20:.3f},content{i // 2}")
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")


def shortened(words: list[str]) -> tuple[str, list[str]]:
    """A documented command's program and arguments, changed so that it takes seconds."""
    program, arguments = words[1], words[2:]
    if program == "protocol":
        before, dashes, training = split_at(arguments)
        return program, [*before, "--rounds=1", "--selection=val", *dashes, *training, *SHORT]
    if program == "train":
        return program, [*arguments, *SHORT]
    if program == "pretrain":
        return program, [*arguments, *SHORT_PRETRAINING]
    return program, arguments


def jpeg() -> bytes:
    """A photograph-like file of 96x128."""
    y, x = np.mgrid[:96, :128]
    image = np.stack([128 + 100 * np.sin(x / 17), 128 + 100 * np.cos(y / 13), x + y], axis=-1)
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def images():
    """Normalised images (B, H, W, 3) for the model's variant `test`, which pages take as given."""
    return jnp.zeros((2, 64, 64, 3))


NOTEBOOK = ROOT / "examples" / "sample.ipynb"


def cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_shows_its_outputs():
    shown = [output for cell in cells() for output in cell["outputs"]]
    assert any("image/png" in output.get("data", ()) for output in shown)
    assert NOTEBOOK.stat().st_size < 250_000 and str(pathlib.Path.home()) not in NOTEBOOK.read_text()


@pytest.mark.release
def test_the_notebook_runs(tmp_path):
    """Its cells in order, in one process, in a folder `examples` beside `configs`."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "examples").mkdir()
    program = tmp_path / "examples" / "notebook.py"
    program.write_text("\n".join("".join(cell["source"]) for cell in cells()))
    done = programs.run(program, cwd=program.parent, env={"MPLBACKEND": "Agg", "JAXIQA_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "workdir" / "notebook" / "report.html").exists()


def test_the_citation_is_of_this_version():
    with open(ROOT / "pyproject.toml", "rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_manual_builds(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "site").rglob("index.html"))) == len(MANUAL) - 1
