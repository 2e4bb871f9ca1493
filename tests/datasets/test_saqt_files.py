"""SAQT's public files: the released ones, and the unreleased forms, written here."""

import csv
import re
import resource
import time

import numpy as np
import pytest
from faulty import faulty
from refused import refused

from jaxiqa.datasets import checks
from jaxiqa.datasets.formats.saqt_files import (
    Matches,
    check_names,
    distorted_name,
    read_matches,
    read_names,
    stem,
    write_labels,
    write_matches,
    write_similarities,
)
from jaxiqa.errors import DataError

MISALIGNED, RIGHT = "similarity_img_in_kadid-10k.csv", "similarity_img_in_iqadataset.csv"

# file -> least, 5 %, median, mean, 95 % and greatest similarity; images at 0.7, 0.8, 0.9 or more; the references that
# are matched most and least
STATISTICS = {
    MISALIGNED: ((0.472, 0.695, 0.799, 0.794, 0.874, 0.960), (47_168, 24_613, 500),
                 {"I27.png": 3251, "I52.png": 2609, "I31.png": 1997, "I44.png": 16}),
    RIGHT: ((0.550, 0.751, 0.816, 0.816, 0.871, 0.995), (49_580, 36_806, 420),
            {"I77.png": 5176, "I60.png": 3973, "I25.png": 2679, "I55.png": 13}),
}  # fmt: skip


@pytest.fixture(scope="module")
def released(shared):
    """released(file) is the matches in a file of the release."""
    return lambda file: read_matches(str(shared / "data/saqt_public" / file))["kadid-10k"]


@pytest.mark.parametrize("file", STATISTICS)
def test_released_matches(file, released):
    matches, (expected, counts, references) = released(file), STATISTICS[file]
    assert len(matches.sources) == len(set(matches.sources)) == len(matches.references) == 50_000
    s = matches.similarity
    found = (s.min(), np.quantile(s, 0.05), np.median(s), s.mean(), np.quantile(s, 0.95), s.max())
    np.testing.assert_allclose(found, expected, atol=0.00051)
    assert tuple(int((s >= limit).sum()) for limit in (0.7, 0.8, 0.9)) == counts
    names, often = np.unique(matches.references, return_counts=True)
    count = dict(zip(names.tolist(), often.tolist(), strict=True))
    assert len(count) == 81 and references.items() <= count.items()
    assert sorted(count.values())[-3:] == sorted(references.values())[-3:] and min(often) == min(references.values())
    assert not any("_" in name or name.count(".") > 1 for name in matches.sources)
    check_names(matches.sources)


def test_released_list_and_choice(shared, released):
    names = read_names(str(shared / "data/saqt_public/selected_kadis_imgs50k.txt"))
    assert names == released(MISALIGNED).sources and names[0] == "audio-1791927.png"
    matches = released(RIGHT)  # option 2: a union of 24,034 in the order of names, then falling similarity
    union, rest = matches.sources[:24_034], matches.similarity[24_034:]
    assert union == sorted(union) and matches.sources[24_034] < union[-1]
    assert (np.diff(rest) <= 0).all() and round(float(rest[0]), 4) == 0.9953
    assert len(set(names) & set(matches.sources)) == 22_940


FLOWERS = {
    "flower", "flowers", "rose", "roses", "tulip", "tulips", "blossom", "daisy", "orchid", "dahlia", "lily",
    "sunflower", "poppy", "hibiscus", "crocus", "peony",
}  # fmt: skip


def hit_rate(matches, tags):
    """How often an image named after a flower is matched to a reference that people tagged as a plant."""
    hits = [
        "plant" in tags[reference[:3]]
        for source, reference in zip(matches.sources, matches.references, strict=True)
        if re.split("[-.]", source)[0] in FLOWERS
    ]
    return sum(hits) / len(hits), len(hits)


@pytest.mark.slow
def test_flowers_tell_the_right_file_from_the_misaligned_one(shared, released):
    tags = {}
    for file in (shared / "data/labels/LIQE/splits2/kadid10k").glob("*.txt"):
        for line in file.read_text().splitlines():
            path, _, _, *scenes = line.split("\t")
            tags.setdefault(path.split("/")[-1][:3], set(scenes))
    assert len(tags) == 81
    (right, n), (wrong, m) = hit_rate(released(RIGHT), tags), hit_rate(released(MISALIGNED), tags)
    print(f"flowers matched to plants: {right:.3f} of {n} in {RIGHT}, {wrong:.3f} of {m} in {MISALIGNED}")
    assert n > 3000 and m > 2000
    assert right > 0.9 and wrong < 0.5
    two = [dict(zip(x.sources, x.references, strict=True)) for x in (released(RIGHT), released(MISALIGNED))]
    both = two[0].keys() & two[1].keys()
    assert round(np.mean([two[0][name] == two[1][name] for name in both]), 3) == 0.017


def read(path, encoding="utf-8"):
    with open(path, newline="", encoding=encoding) as file:
        return list(csv.reader(file))


def test_matches_out_and_in(tmp_path):
    paths = {"sub/a,b.png": "/p/sub/a,b.png", "ü.png": "/p/ü.png"}
    numbers, cosines = np.array([[1, 0], [0, 1]]), np.array([[0.75, 0.5], [1.0, -0.25]])
    write_matches(str(tmp_path / "new.csv"), paths, ["/r/I01.png", "I02.png"], numbers, cosines)
    assert (tmp_path / "new.csv").read_bytes()[:3] == b"\xef\xbb\xbf"
    assert read(tmp_path / "new.csv", "utf-8-sig") == [
        ["source_image", "source_path", "target_reference", "target_reference_path", "semantic_distance",
         "cosine_similarity", "rank"],
        ["sub/a,b.png", "/p/sub/a,b.png", "I02.png", "", "0.25", "0.75", "1"],
        ["sub/a,b.png", "/p/sub/a,b.png", "I01.png", "/r/I01.png", "0.5", "0.5", "2"],
        ["ü.png", "/p/ü.png", "I01.png", "/r/I01.png", "0.0", "1.0", "1"],
        ["ü.png", "/p/ü.png", "I02.png", "", "1.25", "-0.25", "2"],
    ]  # fmt: skip
    (found,) = read_matches(str(tmp_path / "new.csv")).values()
    assert (found.sources, found.references) == (list(paths), ["I02.png", "I01.png"])
    assert found.similarity.tolist() == [0.75, 1.0] and found.reference_paths == ["", "/r/I01.png"]

    one = Matches(list(paths), ["I02.png", "I01.png"], np.array([0.8104474544525146, 1 / 3]))
    write_similarities(str(tmp_path / "old.csv"), {"kadid10k": one})
    assert (tmp_path / "old.csv").read_text().splitlines()[:2] == [
        "kadis,kadid-10k,sim_value", '"sub/a,b.png",I02.png,0.8104474544525146'
    ]  # fmt: skip
    back = read_matches(str(tmp_path / "old.csv"))["kadid-10k"]
    assert (back.sources, back.references) == (one.sources, one.references)
    np.testing.assert_array_equal(back.similarity, one.similarity)


def test_several_datasets(tmp_path):
    """The form of the table that a pool is chosen by, with the first row of the released one."""
    header = "kadis,kadid-10k,sim_value_kadid-10k,tid2013,sim_value_tid2013,csiq,sim_value_csiq,pipal,sim_value_pipal"
    row = "121-cc-774921.png,I81.png,0.68573,I25.bmp,0.65650,veggies.png,0.64629,A0026.bmp,0.71406"
    (tmp_path / "table.csv").write_text(f"{header}\n{row}\n")
    found = read_matches(str(tmp_path / "table.csv"))
    assert list(found) == ["kadid-10k", "tid2013", "csiq", "pipal"]
    assert [(m.references, m.similarity.tolist()) for m in found.values()] == [
        (["I81.png"], [0.68573]), (["I25.bmp"], [0.6565]), (["veggies.png"], [0.64629]), (["A0026.bmp"], [0.71406])
    ]  # fmt: skip
    keys = {"kadid-10k": "kadid10k"}
    write_similarities(str(tmp_path / "again.csv"), {keys.get(name, name): m for name, m in found.items()})
    assert (tmp_path / "again.csv").read_text().splitlines()[0] == header
    assert read_matches(str(tmp_path / "again.csv")).keys() == found.keys()


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("kadis,kadid-10k\na.png,I01.png", "format", "kadis,DATASET,sim_value"),
        ("image,kadid-10k,sim_value\na.png,I01.png,1", "format", "header"),
        ("kadis,a,sim_value,b,sim_value\nx,y,1,z,1", "format", "header"),
        ("source_image,target_reference\na,b", "missing", "'source_path'"),
        ("kadis,kadid-10k,sim_value\na.png,I01.png,1\na.png,I01.png,1", "format", "a.png"),
        ("", "format", "header"),
    ],
)
def test_bad_matches_are_refused(text, code, says, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    with refused(DataError, code, tmp_path / "bad.csv", says):
        read_matches(str(tmp_path / "bad.csv"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a.png,I01.png,1.5", {checks.outside(-1.001, 1.001): ["bad.csv:2 1.5"]}),
        ("a.png,,nan", {checks.incomplete_rows("a reference"): ["bad.csv:2"], checks.NON_FINITE_LABELS: 1}),
        ("a.png,I01.png", {checks.incomplete_rows("exactly 3 cells"): ["bad.csv:2 has 2"]}),
    ],
)
def test_bad_rows_of_matches_are_listed(row, expected, tmp_path):
    (tmp_path / "bad.csv").write_text(f"kadis,kadid-10k,sim_value\n{row}")
    with faulty(tmp_path / "bad.csv", expected):
        read_matches(str(tmp_path / "bad.csv"))


def test_bad_lists_are_refused(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n\nb.png\na.png\n")
    with refused(DataError, "format", tmp_path / "list.txt", "a.png"):
        read_names(str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("\n")
    with refused(DataError, "empty", tmp_path / "list.txt"):
        read_names(str(tmp_path / "list.txt"))


def test_names_of_distorted_pictures():
    assert stem("sub/ship-12.final.png") == "ship-12"
    assert distorted_name(0, "a.png", 1, 2) == "001/a_01_02.bmp" and distorted_name(999, "a.png", 25, 5)[:4] == "001/"
    assert distorted_name(49_999, "x/a.b.png", 25, 5) == "050/a_25_05.bmp"
    check_names(["a.png", "b.png", "x/c.png"])
    with refused(DataError, "conflict", "x/a.jpg", "a.png", "a_TT_LL"):
        check_names(["a.png", "b.png", "x/a.jpg"])
    with refused(DataError, "value", "a\udcff.png", "a?.png"):
        check_names(["a\udcff.png"])


CELLS = [(1, 1), (1, 2), (25, 5)]


def test_labels_old(tmp_path):
    sources, labels = [f"s{i}.png" for i in range(2001)], np.array([[0, 4.5, 9], [1 / 3, 2, 3]])
    (tmp_path / "labels_batch_0009.csv").touch()
    (tmp_path / "dataset_004.csv").touch()
    (tmp_path / "mine.csv").touch()
    files, rows = write_labels(str(tmp_path), "old", sources, ["A", "B"], np.arange(2001) % 2, labels, CELLS)
    assert files == [f"dataset_{i:03d}.csv" for i in (1, 2, 3)] and rows == 6003
    assert sorted(p.name for p in tmp_path.iterdir()) == [*files, "mine.csv"]
    first, last = read(tmp_path / files[0]), read(tmp_path / files[2])
    assert first[:5] == [
        ["dist_img", "label"], ["001/s0_01_01.bmp", "0.000000"], ["001/s0_01_02.bmp", "4.500000"],
        ["001/s0_25_05.bmp", "9.000000"], ["001/s1_01_01.bmp", "0.333333"],
    ]  # fmt: skip
    assert len(first) == 3001 and last[1] == ["003/s2000_01_01.bmp", "0.000000"] and len(last) == 4


@pytest.mark.slow
@pytest.mark.parametrize("form", ["old", "new"])
def test_labels_of_the_whole_set(form, released, tmp_path):
    """6.25 million rows in two minutes, a row at a time."""
    sources, rng = released(RIGHT).sources, np.random.default_rng(0)
    cells = [(type_, level) for type_ in range(1, 26) for level in range(1, 6)]
    names = [f"I{r:02d}.png" for r in range(1, 82)]
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    files, rows = write_labels(
        str(tmp_path), form, sources, names, rng.integers(0, 81, 50_000), 9 * rng.random((81, 125)), cells
    )
    took = time.monotonic() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    size = sum((tmp_path / file).stat().st_size for file in files) / 2**20
    print(f"{rows:,} labels in {len(files)} files of the {form} form ({size:.0f} MiB): {took:.1f} s, {grown:.0f} MiB")
    assert (len(files), rows) == (50, 6_250_000) and took < 120 and grown < 100


def test_labels_new(tmp_path):
    labels = np.array([[0, 4.5, 9], [1, 2, 3]])
    files, rows = write_labels(
        str(tmp_path / "labels"), "new", ["x/a,1.png", "b.png"], ["I01.png", "I02.png"], [1, 0], labels, CELLS
    )
    assert files == ["labels_batch_0001.csv"] and rows == 6
    found = (tmp_path / "labels" / files[0]).read_bytes()
    assert found.startswith(b"\xef\xbb\xbfdistorted_image,quality_score,source_image,matched_reference,")
    table = read(tmp_path / "labels" / files[0], "utf-8-sig")
    assert table[0][4:] == ["distortion_type", "distortion_level"]
    assert table[1] == ["001/a,1_01_01.bmp", "1.000000", "x/a,1.png", "I02.png", "1", "1"]
    assert table[6] == ["001/b_25_05.bmp", "9.000000", "b.png", "I01.png", "25", "5"]
