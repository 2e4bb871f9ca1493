"""The fingerprint of a dataset's files: what changes it, and what does not (F20)."""

import dataclasses
import shutil

import pytest
from refused import refused

from jaxiqa.datasets import load
from jaxiqa.datasets.file_sizes import data_fingerprint, file_bytes
from jaxiqa.datasets.prepared import builder
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_file


@pytest.fixture
def folder(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "here")


def fingerprint(folder) -> str:
    return data_fingerprint(load("folder", folder, group_column="content"))


def prepared(folder, output):
    options = {"group_column": "content"}
    plan = builder.make_plan(load("folder", folder, **options), folder, options, False, file_bytes)
    builder.write(plan, output, builder.resume(plan, output), read_file, lambda _: None)
    return output


def grow(path) -> None:
    """Another file under the same name, which decodes to the same image."""
    path.write_bytes(path.read_bytes() + b"\0")


def test_neither_place_nor_order_counts(folder, tmp_path):
    before = fingerprint(folder)
    assert len(before) == 12 and fingerprint(shutil.copytree(folder, tmp_path / "there")) == before
    dataset = load("folder", folder, group_column="content")
    assert data_fingerprint(dataclasses.replace(dataset, records=dataset.records[::-1])) == before


def test_a_picture_of_another_size_counts(folder):
    before, labelled = fingerprint(folder), load("folder", folder, group_column="content").fingerprint
    grow(folder / "3.png")
    assert fingerprint(folder) != before
    assert load("folder", folder, group_column="content").fingerprint == labelled


def test_two_pictures_that_change_places_count(folder):
    before = fingerprint(folder)
    (folder / "0.png").rename(folder / "x")
    (folder / "1.png").rename(folder / "0.png")
    (folder / "x").rename(folder / "1.png")
    assert fingerprint(folder) != before


def test_a_prepared_set_answers_for_its_files(folder, tmp_path):
    before = fingerprint(prepared(folder, tmp_path / "a"))
    assert fingerprint(prepared(folder, tmp_path / "b")) == before
    grow(folder / "3.png")
    assert fingerprint(prepared(folder, tmp_path / "c")) != before


def test_pictures_that_the_program_makes_may_be_encoded_otherwise(tmp_path):
    sample = load("sample", tmp_path)
    before = data_fingerprint(sample)
    grow(next((tmp_path / "references").iterdir()))
    assert data_fingerprint(sample) == before != data_fingerprint(load("sample", tmp_path, types=(1,)))


def test_a_file_that_is_gone(folder):
    dataset = load("folder", folder, group_column="content")
    (folder / "3.png").unlink()
    with refused(DataError, "not_found", folder / "3.png", "No such file or directory"):
        data_fingerprint(dataset)
