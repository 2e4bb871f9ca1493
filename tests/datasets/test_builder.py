"""Prepared sets: the same dataset and the same images, in spite of interruptions, damage and full disks."""

import dataclasses
import hashlib
import importlib.util
import io
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from refused import refused

from jaxiqa.datasets import load, prepared
from jaxiqa.datasets.prepared import builder
from jaxiqa.errors import ConfigError, DataError, DiskFull
from jaxiqa.inputs.decode import image_size, read_file, read_image

OPTIONS = {"group_column": "content"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine images of five kinds, with names that are hard to write."""
    root, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    (root / "sub").mkdir()
    lines = ["path,mos,content,distortion,level"]
    names = ["a.png", "b.jpg", "sub/c.webp", "d.bmp", "e é#1.png", "f.tif", "sub/g h.png", "i.jpg", "j.png"]
    for i, name in enumerate(names):
        image = Image.fromarray(rng.integers(0, 256, (40 + i, 50, 4 if i == 8 else 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(root / name, **({"exif": exif} if name == "i.jpg" else {}))
        lines.append(f"{name},{1 + i / 3!r},{'xyz'[i % 3]},jpeg,{1 + i % 5}")
    (root / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def plan_of(folder, decoded=False, **options):
    options = {**OPTIONS, **options}

    def pixel_bytes(path):
        height, width = image_size(path)
        return 3 * height * width

    return builder.make_plan(load("folder", folder, **options), folder, options, decoded, pixel_bytes if decoded
                             else os.path.getsize)  # fmt: skip


def write(plan, output, read=read_file):
    builder.write(plan, output, builder.resume(plan, output), read, lambda size: None)
    return output


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(builder, "SHARD_BYTES", 12_000)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A prepared set of several shards, written without interruption; tests that change it use a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "SHARD_BYTES", 12_000)
        return write(plan_of(folder), tmp_path_factory.mktemp("prepared") / "set")


def shards(output):
    return sorted(p for p in pathlib.Path(output).iterdir() if ".array_record-" in p.name)


def without_paths(dataset):
    return dataclasses.replace(dataset, records=[dataclasses.replace(r, path="") for r in dataset.records])


def test_everything_but_the_paths_is_the_same(folder, whole):
    ours, theirs = load("folder", whole), load("folder", folder, **OPTIONS)
    assert without_paths(ours) == without_paths(theirs) and ours.fingerprint == theirs.fingerprint
    assert len(shards(whole)) > 3
    for a, b in zip(ours.records, theirs.records, strict=True):
        assert a.path.startswith(f"{whole}/prepared.json#") and a.path.endswith(f"/{b.id}")
        assert read_file(a.path) == pathlib.Path(b.path).read_bytes()
        assert image_size(a.path) == image_size(b.path)
        np.testing.assert_array_equal(read_image(a.path), read_image(b.path))
    assert not list(whole.glob("*.tmp")) and not (whole / builder.UNFINISHED).exists()


def test_options_are_those_of_the_preparation(whole):
    assert load("folder", whole, group_column="content", score_range=(1, 5), csv="index.csv").name == "folder"
    with refused(ConfigError, "changed", "group_column", str(whole), "'content'", "''"):
        load("folder", whole, group_column="")
    with refused(ConfigError, "unknown", "group", "group_column"):
        load("folder", whole, group="content")
    with refused(DataError, "mismatch", whole, "folder", "kadid10k"):
        load("kadid10k", whole)


@pytest.mark.parametrize("name", ["live", "csiq", "koniq10k", "livemd"])
def test_every_field_of_a_dataset_is_kept(name, tree):
    dataset = load(name, tree(name))
    paths = [r.path for r in dataset.records]
    back = prepared.from_json(prepared.to_json(dataset, paths, paths), "/there")
    assert without_paths(back) == without_paths(dataset)


def test_pictures_that_are_yet_to_be_distorted_are_there_once(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXIQA_CACHE", str(tmp_path / "cache"))
    sample = load("sample", types=[1, 10])
    plan = builder.make_plan(sample, "", {"types": [1, 10]}, False, os.path.getsize)
    ours = load("sample", write(plan, tmp_path / "set"), types=(1, 10))
    assert without_paths(ours) == without_paths(sample)
    assert len(plan.images) == len({r.path for r in ours.records}) == len(sample) // 10
    np.testing.assert_array_equal(read_image(ours.records[-1].path), read_image(sample.records[-1].path))


def test_tfds_reads_it(folder, whole):
    source = tfds.builder_from_directory(whole).as_data_source("full", decoders={"image": tfds.decode.SkipDecoding()})
    dataset = load("folder", folder, **OPTIONS)
    assert len(source) == len(dataset)
    for example, record in zip(source, dataset.records, strict=True):
        assert example["image"] == pathlib.Path(record.path).read_bytes()
        assert example["sha256"].decode() == hashlib.sha256(example["image"]).hexdigest()
        assert [t.decode() for t in example["records"]["id"]] == [record.id]
        assert list(example["records"]["mos"]) == [np.float32(record.mos)]
        assert list(example["records"]["level"]) == [record.level]


def test_pixels_in_the_place_of_files(folder, tmp_path):
    def pixels(path):
        file = io.BytesIO()
        Image.fromarray(read_image(path)).save(file, "PPM")
        return file.getvalue()

    decoded = load("folder", write(plan_of(folder, decoded=True), tmp_path / "set", pixels))
    for a, b in zip(decoded.records, load("folder", folder, **OPTIONS).records, strict=True):
        np.testing.assert_array_equal(read_image(a.path), read_image(b.path))


def test_an_interrupted_run_is_not_a_set_and_is_resumed(folder, whole, tmp_path, small_shards):
    def reading(path):
        if path.endswith("f.tif"):
            raise KeyboardInterrupt
        return read_file(path)

    output, plan = tmp_path / "set", plan_of(folder)
    with pytest.raises(KeyboardInterrupt):
        write(plan, output, reading)
    assert not prepared.is_prepared(output) and not list(output.glob("*.tmp"))
    with refused(DataError, "not_found", output / "index.csv"):
        load("folder", output)
    before = {p.name: p.stat().st_mtime_ns for p in shards(output)}
    assert 0 < len(before) < len(shards(whole))
    (output / "killed.1.tmp").write_text("what a killed run leaves")
    write(plan, output)
    after = {p.name: p.stat().st_mtime_ns for p in shards(output)}
    assert before.items() <= after.items()
    assert {p.name: p.read_bytes() for p in output.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


def test_a_whole_set_is_left_alone(folder, whole, small_shards):
    before = {p.name: p.stat().st_mtime_ns for p in whole.iterdir()}
    (whole / builder.UNFINISHED).write_text("a run was killed after its last file but one")
    write(plan_of(folder), whole)
    assert {p.name: p.stat().st_mtime_ns for p in whole.iterdir()} == before


def test_other_data_are_not_mixed_in(folder, whole, tmp_path, small_shards):
    labels = (folder / "index.csv").read_text(encoding="utf-8")
    (folder / "other.csv").write_text(labels.replace(",1.0,", ",1.5,"), encoding="utf-8")
    with refused(ConfigError, "changed", "--output", str(whole), "fingerprint, options"):
        write(plan_of(folder, csv="other.csv"), whole)
    with refused(ConfigError, "changed", "--output", "decoded, shards, sources"):
        write(plan_of(folder, decoded=True), whole)
    (tmp_path / "notes.txt").touch()
    with refused(ConfigError, "conflict", "--output", str(tmp_path), "notes.txt"):
        write(plan_of(folder), tmp_path)
    (tmp_path / "notes.txt").unlink()
    (tmp_path / builder.UNFINISHED).write_text("{")
    with refused(ConfigError, "damaged", tmp_path / builder.UNFINISHED):
        write(plan_of(folder), tmp_path)


def faults(output):
    return [fault for _, fault in prepared.verify(output) if fault]


def test_flipped_bytes_never_give_another_picture_and_verify_finds_all(folder, whole, tmp_path):
    originals = {r.id: pathlib.Path(r.path).read_bytes() for r in load("folder", folder, **OPTIONS).records}
    assert faults(whole) == []
    rng, refused = np.random.default_rng(0), 0
    for trial in range(30):
        output = tmp_path / str(trial)
        shutil.copytree(whole, output)
        shard = shards(output)[trial % len(shards(output))]
        data = bytearray(shard.read_bytes())
        data[rng.choice(np.flatnonzero(data))] ^= 1 << rng.integers(8)  # zeros are padding
        shard.write_bytes(data)
        wrong = 0
        for record in load("folder", output).records:
            try:
                assert read_file(record.path) == originals[record.id]
            except DataError as error:
                wrong += 1
                assert str(shard.parent) in str(error) and "\n" not in str(error)
        refused += wrong > 0
        (fault,) = faults(output)
        assert shard.name in fault and "remove" in fault
    assert refused > 25, refused  # the other flips are in bytes that no image needs


def test_lost_cut_and_damaged_files_are_named_and_written_anew(folder, whole, tmp_path, small_shards):
    output = tmp_path / "set"
    shutil.copytree(whole, output)
    intact = {p.name: p.read_bytes() for p in output.iterdir()}
    first, second, *_ = shards(output)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    with refused(DataError, "damaged", output, f"{first.name}, {second.name}"):
        load("folder", output)
    assert len(faults(output)) == 2
    write(plan_of(folder), output)
    assert {p.name: p.read_bytes() for p in output.iterdir()} == intact

    records = output / prepared.RECORDS
    records.write_bytes(records.read_bytes().replace(b"1.0", b"5.0"))
    with refused(DataError, "damaged", records):
        load("folder", output)
    (output / prepared.MANIFEST).write_text("{}")
    with refused(DataError, "damaged", output / prepared.MANIFEST):
        load("folder", output)


def test_shards_of_another_set_are_noticed(folder, whole, tmp_path):
    output = tmp_path / "set"
    shutil.copytree(whole, output)
    first, second, *_ = shards(output)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    address = f"{output}/{prepared.MANIFEST}#0/a.png"
    with refused(DataError, "damaged", address):
        read_image(address)
    with pytest.raises(DataError, match=r"#99/a\.png"):
        read_image(address.replace("#0", "#99"))


def test_a_full_disk(folder, tmp_path, monkeypatch, small_shards):
    output, plan = tmp_path / "set", plan_of(folder)
    output.mkdir()
    # array_record writes the second shard to a device that is always full.
    (output / f"{plan.shard_file(1)}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with refused(DiskFull, "disk_full", None, str(output)) as e:
        write(plan, output)
    assert e.value.exit_code == 75 and not prepared.is_prepared(output)
    assert [p.name for p in shards(output)] == [plan.shard_file(0)]

    (output / f"{builder.UNFINISHED}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        write(plan, output)
    write(plan, output)
    assert faults(output) == []


def test_a_folder_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").touch()
    with refused(ConfigError, "unwritable", "--output", "file/set", "Not a directory"):
        write(plan_of(folder), tmp_path / "file" / "set")


@pytest.mark.skipif(bool(importlib.util.find_spec("gcsfs")), reason="gcsfs is installed")
def test_a_bucket_without_gcsfs_is_one_line(folder):
    for use in (lambda: load("folder", "gs://bucket/set"), lambda: write(plan_of(folder), "gs://bucket/set")):
        with pytest.raises(ConfigError, match=r"gs://bucket/set.*gcsfs"):
            use()
