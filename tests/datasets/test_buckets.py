"""Prepared sets in a bucket (here in memory): they are written there, and read from a local copy."""

import importlib.util
import json
import os

import fsspec
import numpy as np
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
from refused import refused

from jaxiqa.datasets import load, prepared
from jaxiqa.datasets.file_sizes import data_fingerprint, file_bytes
from jaxiqa.datasets.prepared import builder
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_file, read_image

BUCKET, OPTIONS = "gs://data/set", {"group_column": "content"}


class Bucket(MemoryFileSystem):
    protocol = ("gs", "gcs")

    def open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode, "files in a bucket cannot be appended to"
        return super().open(path, mode, **options)


@pytest.fixture
def bucket(pictures, tmp_path, monkeypatch) -> epath.Path:
    """A prepared set."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find_spec("fsspec" if name == "gcsfs" else name))
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **_: Bucket())
    monkeypatch.setenv("JAXIQA_CACHE", str(tmp_path / "cache"))
    epath.backend.fsspec_backend._get_filesystem.cache_clear()
    Bucket.store.clear()
    plan = builder.make_plan(load("folder", pictures, **OPTIONS), pictures, OPTIONS, False, file_bytes)
    builder.write(plan, BUCKET, builder.resume(plan, BUCKET), read_file, lambda _: None)
    yield epath.Path(BUCKET)
    epath.backend.fsspec_backend._get_filesystem.cache_clear()


def test_pictures_are_read_from_a_copy(bucket, pictures, tmp_path, capsys):
    here, there = load("folder", pictures, **OPTIONS), load("folder", BUCKET)
    assert "copying 5 files" in capsys.readouterr().out
    assert there.fingerprint == here.fingerprint and [r.id for r in there.records] == [r.id for r in here.records]
    for ours, theirs in zip(here.records, there.records, strict=True):
        assert theirs.path.startswith(str(tmp_path / "cache"))
        np.testing.assert_array_equal(read_image(theirs.path), read_image(ours.path))
    assert not [fault for _, fault in prepared.verify(BUCKET) if fault]
    assert len(data_fingerprint(there)) == 12


def test_what_is_copied_is_kept(bucket, capsys):
    copy = prepared.folder_of(load("folder", BUCKET).records[0].path)
    os.remove(os.path.join(copy, "LICENSE"))  # as if the copy had been interrupted
    capsys.readouterr()
    load("folder", BUCKET)
    assert "copying 1 files" in capsys.readouterr().out
    load("folder", BUCKET)
    assert capsys.readouterr().out == "" and not [name for name in os.listdir(copy) if name.endswith(".tmp")]


def test_a_set_prepared_anew_is_copied_anew(bucket):
    before = prepared.folder_of(load("folder", BUCKET).records[0].path)
    manifest = json.loads((bucket / prepared.MANIFEST).read_text())
    (bucket / prepared.MANIFEST).write_text(json.dumps(manifest | {"sources": "other"}))
    assert prepared.folder_of(load("folder", BUCKET).records[0].path) != before


def test_a_damaged_file_is_not_taken_over(bucket):
    (shard,) = [path for path in bucket.iterdir() if "array_record" in path.name]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with refused(DataError, "damaged", shard):
        load("folder", BUCKET)
    folder = os.path.join(os.environ["JAXIQA_CACHE"], "prepared")
    left = [name for _, _, names in os.walk(folder) for name in names]
    assert not [name for name in left if "array_record" in name]
