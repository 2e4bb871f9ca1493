"""jaxiqa prepare: the batches of a prepared folder, a killed run, checksums, refusals."""

import json
import signal

import numpy as np
import programs
import pytest
from refused import refused
from tiny_run import check_refusals, filled, run_program, run_with_small_files, trained_config

from jaxiqa.datasets import load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import DataError
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import train_batches

CONTENT = "--option=group_column=content"


def prepare(folder, output, *flags):
    done = run_program("prepare", "folder", folder, CONTENT, "--output", output, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prepared(pictures, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "set"
    text = prepare(pictures, output, "--verify")
    assert "15 records of folder" in text and "in 1 shard(s), 0 existed" in text
    assert str(output) in text.splitlines()[-1] and "15 images, 5 files" in text.splitlines()[-1]
    return output


def batches(dataset, crop, count):
    split = make_split(dataset)
    labels = dataset.scale.to_score01([dataset.records[i].mos for i in split.train])
    pictures = Images([dataset.records[i] for i in split.train], crop)
    stream = train_batches(pictures, labels, crop=crop, batch_size=8, seed=3)
    taken = [next(stream) for _ in range(count)]
    stream.close()
    return split.fingerprint, taken


def assert_same_batches(folder, prepared_folders, crop, count):
    expected, ours = batches(load("folder", folder, group_column="content"), crop, count)
    for other in prepared_folders:
        fingerprint, theirs = batches(load("folder", other), crop, count)
        assert fingerprint == expected
        for a, b in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys()
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])


def test_training_batches_are_the_same_bit_for_bit(pictures, prepared, tmp_path):
    decoded = tmp_path / "decoded"
    prepare(pictures, decoded, "--decoded")
    assert json.loads((decoded / "prepared.json").read_text())["decoded"] is True
    assert_same_batches(pictures, [prepared, decoded], 64, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tub_acr", "avt_hevc"])
def test_training_batches_of_real_images(name, shared, tmp_path):
    folder = shared / "data" / "mos" / name
    for output, flags in ((tmp_path / "files", ["--verify"]), (tmp_path / "pixels", ["--decoded"])):
        prepare(folder, output, *flags)
    assert_same_batches(folder, [tmp_path / "files", tmp_path / "pixels"], 224, 10)


@pytest.mark.slow
def test_training_reads_it(pictures, prepared, trained, tmp_path):
    """Six steps on the folder and six on the prepared folder give the same test scores."""
    from etils import epath

    from jaxiqa.train import train

    assert (
        train(trained_config(pictures, **{"dataset.data_dir": str(prepared)}), epath.Path(tmp_path / "w")) == trained[1]
    )


def test_the_same_command_again_writes_nothing(pictures, prepared):
    before = {p.name: p.stat().st_mtime_ns for p in prepared.iterdir()}
    assert "1 existed" in prepare(pictures, prepared)
    assert {p.name: p.stat().st_mtime_ns for p in prepared.iterdir()} == before


# The program with small shards. It sends itself a signal when it reads the image that its first argument names.
_KILLED = """
import os, runpy, sys
from jaxiqa.datasets.prepared import builder
from jaxiqa.inputs import decode
builder.SHARD_BYTES, read_file = 40_000, decode.read_file
last, number = sys.argv[1], int(sys.argv[2])
def read(path):
    if os.path.basename(path) == last:
        os.kill(os.getpid(), number)
    return read_file(path)
decode.read_file = read
sys.argv = ["prepare.py", *sys.argv[3:]]
runpy.run_module("jaxiqa.prepare", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_run_is_not_a_prepared_folder_and_is_finished_by_the_same_command(number, pictures, tmp_path):
    output, script = tmp_path / "set", tmp_path / "killed.py"
    script.write_text(_KILLED)

    def run(last, output=output):
        return programs.run(script, last, int(number), "folder", pictures, CONTENT, "--output", output)

    killed = run("7.png")
    assert killed.returncode == (-9 if number == signal.SIGKILL else 143)
    if number == signal.SIGTERM:
        assert "prepare.py: terminated; " in killed.stderr
    assert not (output / "prepared.json").exists()
    with pytest.raises(DataError):
        load("folder", output)
    done = run("none")
    assert done.returncode == 0, done.stderr
    there = int(done.stdout.split("shard(s), ")[1].split()[0])
    assert there > 0
    assert_same_batches(pictures, [output], 64, 2)
    assert run("none", tmp_path / "unbroken").returncode == 0
    unbroken = {p.name: p.read_bytes() for p in (tmp_path / "unbroken").iterdir()}
    assert {p.name: p.read_bytes() for p in output.iterdir()} == unbroken


def test_a_flipped_byte_is_found(prepared, tmp_path):
    (shard,) = (p for p in prepared.iterdir() if "array_record" in p.name)
    copy = tmp_path / "set"
    copy.mkdir()
    for file in prepared.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    data = bytearray(shard.read_bytes())
    data[50_000] ^= 1
    (copy / shard.name).write_bytes(data)
    done = run_program("prepare", "folder", copy, "--verify")
    assert done.returncode == 3
    last = done.stderr.strip().splitlines()[-1]
    assert str(copy) in last and "1 fault" in last and shard.name in last
    dataset = load("folder", copy)
    with refused(DataError, "damaged", None, str(copy)):
        for picture in range(len(dataset)):
            Images(dataset.records, 64)[picture]


def test_a_file_size_limit_is_a_full_disk(pictures, tmp_path):
    arguments = ["folder", pictures, CONTENT, "--output", tmp_path / "set"]
    done = run_with_small_files("prepare", 100_000, *arguments)
    assert done.returncode == 75, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert str(tmp_path / "set") in line
    assert prepare(pictures, tmp_path / "set").startswith("15 records")


REFUSED = [
    ([], 2, "jaxiqa prepare NAME DIR --output DIR"),
    (["folder", "{pictures}", "more"], 2, "jaxiqa prepare NAME DIR --output DIR"),
    (["foldr", "{pictures}"], 2, "foldr", '"folder"'),
    (["folder", "{pictures}", "--option=group_colum=content"], 2, "group_colum", '"group_column"'),
    (["folder", "{pictures}", "--option=content"], 2, "--option content", "KEY=VALUE"),
    (["folder", "/nowhere"], 3, "/nowhere"),
    (["folder", "{prepared}"], 2, "{prepared}", "--verify"),
    (["kadid10k", "{prepared}", "--verify"], 3, "{prepared}", "folder", "kadid10k"),
    (["folder", "{pictures}", "--output={pictures}"], 2, "{pictures}", "0.png"),
    (["folder", "{pictures}", "--output={prepared}"], 2, "{prepared}", "options"),
    (["folder", "{pictures}", "--output=README.md/x"], 2, "README.md/x", "Not a directory"),
    (["folder", "{broken}", "--output={broken}/set", "--decoded"], 3, "{broken}/cut.png"),
]


def test_refusals(pictures, prepared, tmp_path):
    (tmp_path / "index.csv").write_text("path,mos\ncut.png,3\n")
    (tmp_path / "cut.png").write_bytes((pictures / "3.png").read_bytes()[:-5000])
    check_refusals("prepare", filled(REFUSED, pictures=pictures, prepared=prepared, broken=tmp_path))
