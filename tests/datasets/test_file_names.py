"""Which file a name means: what is certain, and what is not."""

import unicodedata

import pytest

from jaxiqa.datasets.file_names import Files, is_copy, stem_of

UMLAUT = "b\N{LATIN SMALL LETTER A WITH DIAERESIS}r.png"


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("sub\\a.png", ["sub/a.png"], "sub/a.png"),
        ("Sub/A.PNG", ["sub/a.png"], "sub/a.png"),
        ("./sub//a.png", ["sub/a.png"], "sub/a.png"),
        (UMLAUT, [unicodedata.normalize("NFD", UMLAUT)], unicodedata.normalize("NFD", UMLAUT)),
        ("my%20photo.jpg", ["my photo.jpg"], "my photo.jpg"),
        ("a.bmp", ["a.png", "b.png"], "a.png"),
        ("a.jpeg", ["a.JPG"], "a.JPG"),
        ("a", ["a.jpg"], "a.jpg"),
        ("img.v1", ["img.v1.png"], "img.v1.png"),
        ("a.bmp", ["a.bmp", "a.png"], "a.bmp"),
        ("a.bmp", ["a.jpg"], ""),  # another quality
        ("a.png", ["a.webp"], ""),
        ("A.png", ["a.png", "a.PNG"], ""),
        ("a.gif", ["a.png", "a.tif"], ""),
        ("a", ["a.png", "a.jpg"], ""),
        ("img.v1", ["img.png"], ""),
        ("a.png", ["sub/a.png"], ""),
    ],
)
def test_one_name(name, there, found):
    assert Files(there).find(name) == found


TREE = ["images/a.png", "images/b.png", "ref/a.png"]


@pytest.mark.parametrize(
    ("names", "there", "found"),
    [
        (["C:\\data\\a.png", "C:\\data\\b.png"], ["a.png", "b.png"], ["a.png", "b.png"]),
        (["/home/x/images/a.png", "/home/x/images/b.png"], TREE, TREE[:2]),
        (["Set/images/a.png", "Set/ref/a.png"], TREE, ["images/a.png", "ref/a.png"]),
        (["a.png", "b.png"], ["1/a.png", "2/b.png"], ["1/a.png", "2/b.png"]),
        (["a.bmp", "b.bmp"], ["x/a.png", "x/b.png"], ["x/a.png", "x/b.png"]),
        (["a.png", "b.png"], TREE, TREE[:2]),  # ref has no b.png
        (["a.png"], TREE, []),  # two files
        (["x/a.png", "x/c.png"], TREE, []),  # one is missing
        (["a.bmp"], ["x/a.jpg"], []),
        (["1/a.png", "2/a.png"], ["3/a.png"], []),  # two names, one file
    ],
)
def test_all_names_in_another_place(names, there, found):
    assert Files(there).find_elsewhere(names) == dict(zip(names, found, strict=False))


def test_copies_without_loss():
    assert is_copy(".png", ".bmp") and is_copy(".tif", ".jpg") and is_copy(".jpg", ".jpeg")
    assert not is_copy(".jpg", ".bmp") and not is_copy(".webp", ".png")


def test_stems():
    assert stem_of("Images\\I01_01_01.PNG") == "i01_01_01" and stem_of("1600.AWGN.1.png") == "1600.awgn.1"
