"""Addresses through fsspec: read, listed, refused, tried again."""

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from refused import refused

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs import remote
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.image_paths import find_images


@pytest.fixture
def bucket(monkeypatch):
    """memory://bucket with two images, a table, and another file."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setattr(remote, "_PAUSE", 0.0)
    files = MemoryFileSystem()
    for name in ("b/2.png", "b/1.png", "t.parquet", "notes.txt"):
        files.makedirs("/bucket/b", exist_ok=True)
        with files.open(f"/bucket/{name}", "wb") as file:
            Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(file, "PNG")
    return files


def test_an_address_is_read_as_a_file(bucket):
    assert read_image("memory://bucket/b/1.png").tolist() == np.full((4, 5, 3), 7).tolist()
    with refused(DataError, "not_found", "memory://bucket/gone.png"):
        read_image("memory://bucket/gone.png")


def test_what_an_address_stands_for(bucket):
    one, two = "memory:///bucket/b/1.png", "memory:///bucket/b/2.png"
    found = [name.replace("memory:///", "memory://") for name in find_images(["memory://bucket/"])]
    assert found == [name.replace("memory:///", "memory://") for name in (one, two, "memory:///bucket/t.parquet")]
    found = [name.replace("memory:///", "memory://") for name in find_images(["memory://bucket/b/*.png"])]
    assert found == [name.replace("memory:///", "memory://") for name in (one, two)]
    assert find_images(["memory://bucket/b/1.png", "https://host/a?b=[1].png"]) == [
        "memory://bucket/b/1.png",
        "https://host/a?b=[1].png",
    ]
    with refused(DataError, "empty", "memory://bucket/none/"):
        find_images(["memory://bucket/none/"])


def test_a_request_that_fails_is_tried_again(bucket, monkeypatch):
    calls = []
    cat_file = MemoryFileSystem.cat_file

    def unsteady(self, path, **how):
        calls.append(path)
        if len(calls) < wanted:
            raise OSError("connection reset")
        return cat_file(self, path, **how)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", unsteady)
    wanted = 3
    assert remote.read_bytes("memory://bucket/b/1.png") and len(calls) == 3
    calls.clear()
    wanted = 9
    with refused(DataError, "unreadable", "memory://bucket/b/1.png", "connection reset"):
        remote.read_bytes("memory://bucket/b/1.png")
    assert len(calls) == 3


@pytest.mark.parametrize(("address", "code"), [("nowhere://host/a.png", "value"), ("s3://bucket/a.png", "package")])
def test_protocols_that_are_not_there(address, code, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with refused(ConfigError if code == "package" else DataError, code, address):
        read_image(address)


def test_what_is_an_address():
    yes = ("https://a/b.jpg", "s3://b/c", "gs://b/c", "zip://a.jpg::s3://b/c.zip")
    no = ("a.jpg", "/a//b.jpg", "C:/a.jpg", "a:b.jpg", "", "://a")
    assert all(map(remote.is_address, yes)) and not any(map(remote.is_address, no))
