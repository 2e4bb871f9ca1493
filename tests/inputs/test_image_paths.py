"""Words of a command line to image files: folders, links, patterns, lists; nothing is left out without a word."""

import io
import os
import sys
import types

import pytest
from refused import refused

from jaxiqa.datasets import image_files
from jaxiqa.errors import DataError
from jaxiqa.inputs import image_paths
from jaxiqa.inputs.image_paths import by_stem, find_images, images_in

ENDINGS = ("jpg", "JPEG", "jfif", "jpe", "mpo", "Png", "webp", "tif", "heic", "HEIF", "avif", "jxl", "jp2", "bmp")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def test_all_endings_and_a_count_of_the_others(here, capsys):
    fill(here, *(f"a.{ending}" for ending in ENDINGS), "notes.txt", "list.TXT", "no ending", "clip.mp4", "Thumbs.db")
    assert find_images(["."]) == sorted(f"./a.{ending}" for ending in ENDINGS)
    assert capsys.readouterr().err == (
        "left out 4 files without the ending of an image: 2 .txt, 1 .mp4, 1 without one\n"
    )
    fill(here / "few", "b.png")
    assert find_images(["few", "few/b.png", "notes.txt"]) == ["few/b.png", "notes.txt"]  # a named file always counts
    assert not capsys.readouterr().err


def test_companions_of_macos_are_nowhere(here):
    fill(here, "a.jpg", "._a.jpg", ".DS_Store")
    fill(here / "__MACOSX" / "sub", "a.jpg", "._a.jpg")
    assert find_images(["."]) == images_in(".") == ["./a.jpg"]
    assert find_images(["._*", "a.jpg"]) == ["a.jpg"]
    assert by_stem(".") == {"a": ["./a.jpg"]}


def test_links(here, tmp_path_factory):
    other = tmp_path_factory.mktemp("other disk")
    fill(other, "there.png")
    fill(here / "all" / "z", "here.png")
    links = {"disk": other, "again": other, "loop": ".", "up": "..", "a": "z", "self.png": "self.png"}
    for name, target in links.items():
        (here / "all" / name).symlink_to(target)
    (here / "all" / "broken.png").symlink_to("nothing")
    (other / "back").symlink_to(here / "all")
    os.mkfifo(here / "all" / "pipe.jpg")
    found = ["all/again/there.png", "all/broken.png", "all/pipe.jpg", "all/self.png", "all/z/here.png"]
    assert find_images(["all"]) == found
    assert find_images(["all/a"]) == ["all/a/here.png"]


def test_a_folder_that_cannot_be_opened_is_named(here, monkeypatch):
    fill(here / "shared" / "private", "theirs.png")
    fill(here / "shared", "mine.png")
    scandir = os.scandir

    def as_another_user(path):
        if str(path).endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(image_files.os, "scandir", as_another_user)
    assert find_images(["shared"]) == ["shared/private", "shared/mine.png"]
    with refused(DataError, "unreadable", "shared/private"):
        images_in("shared")


def test_missing_and_empty(here):
    fill(here / "texts", "a.txt")
    fill(here, "b.png")
    assert find_images(["b.png", "gone.png", "texts"]) == ["b.png", "gone.png"]  # reading it says why
    for paths, code, key in (
        (["gone.png"], "not_found", "gone.png"),
        (["gone.png", "*.gone"], "not_found", "gone.png"),
        (["texts"], "empty", "texts"),
        (["@list.txt", "b.png"], "not_found", "list.txt"),
        (["@texts", "b.png"], "unreadable", "texts"),
    ):
        with refused(DataError, code, key):
            find_images(paths)
    for folder, code in (("gone", "not_found"), ("texts", "empty")):
        with refused(DataError, code, folder):
            images_in(folder)


def test_patterns(here):
    fill(here / "p", "1.png", "2.png", "[1].png", "x.jpg")
    assert find_images(["p/*.png"]) == ["p/1.png", "p/2.png", "p/[1].png"]
    assert find_images(["p/[1].png"]) == ["p/[1].png"]  # a file of this name goes before the pattern
    assert find_images(["p/[2x].*", "?"]) == ["p/2.png", "p/x.jpg", "p/1.png", "p/[1].png"]  # a folder matches too


LIST = "one.png\r\n\r\n# a comment\r\n#1.png\r\nsub/two.png\r\n"


@pytest.mark.parametrize("data", [LIST.encode(), b"\xef\xbb\xbf" + LIST.encode(), LIST.encode("utf-16")])
def test_lists(here, data, monkeypatch):
    fill(here, "one.png", "#1.png")
    fill(here / "lists" / "sub", "two.png")
    (here / "lists" / "names.txt").write_bytes(data)
    expected = ["one.png", "#1.png", "lists/sub/two.png"]  # from the current folder, else beside the list
    assert find_images(["@lists/names.txt"]) == expected
    fill(here, "@lists.png")
    assert find_images(["@lists.png", "@lists/names.txt"]) == ["@lists.png", *expected]
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    assert find_images(["-"]) == ["one.png", "#1.png", "sub/two.png"]


def test_names_separated_by_nul(here, monkeypatch):
    names = [b"a\nb.png", b"#c.png", b"\xff.png", b" d.png"]
    for name in names:
        with open(name, "wb"):
            pass
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"\0".join(names) + b"\0")))
    assert find_images(["-"]) == [os.fsdecode(name) for name in names]


def test_an_empty_list(here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"\n# nothing\n")))
    with refused(DataError, "empty", "-"):
        find_images(["-"])


def test_the_order_is_that_of_whole_paths(here):
    fill(here / "x", "a.png", "b.png", "a0.png")
    for folder in ("a", "a-b", "a!", "b/c"):
        (here / "x" / folder).mkdir(parents=True)
        fill(here / "x" / folder, "1.png")
    found = find_images(["x"])
    assert found == sorted(found) and len(found) == 7


def test_a_list_is_read_in_parts(here, monkeypatch):
    monkeypatch.setattr(image_paths, "_PART", 5)
    names = [f"{'long' * (i % 7)}{i}.png" for i in range(50)]
    fill(here, *names)
    (here / "names.txt").write_text("\r\n".join(names))
    assert find_images(["@names.txt", names[3]]) == names


def test_only_so_many_names_are_remembered(here, monkeypatch):
    monkeypatch.setattr(image_paths, "_REMEMBERED", 2)
    fill(here, "a.png", "b.png", "c.png")
    assert find_images(["a.png", "b.png", "c.png", "a.png", "c.png"]) == ["a.png", "b.png", "c.png", "c.png"]
