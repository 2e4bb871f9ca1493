"""The folder reader: real collections, and every fault that a CSV can have."""

import collections

import numpy as np
import pytest
from faulty import faulty
from refused import refused

from jaxiqa.datasets import checks, load
from jaxiqa.errors import ConfigError, DataError


def write(tmp_path, text, pictures=("a.png", "b.png", "c.png")):
    for name in pictures:
        (tmp_path / name).touch()
    (tmp_path / "index.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


def test_tub_acr(shared):
    d = load("folder", shared / "data/mos/tub_acr", group_column="content")
    assert len(d) == 120 and len({r.reference for r in d.records}) == 12
    assert d.score_range == (1.0, 5.0) and d.higher_is_better
    assert collections.Counter((r.distortion, r.level) for r in d.records) == {
        (t, level): 12 for t in ("gblur", "jpeg") for level in range(1, 6)
    }
    first = d.records[0]
    assert (first.id, first.mos, first.reference, first.level) == ("images/bad_1_blur_1.jpg", 2.133333, "bad_1", 5)
    assert first.path == str(shared / "data/mos/tub_acr/images/bad_1_blur_1.jpg") and first.apply is None


def test_avt_hevc_has_levels_that_are_no_strengths(shared):
    d = load("folder", shared / "data/mos/avt_hevc", group_column="content")
    assert len(d) == 154 and len({r.reference for r in d.records}) == 18
    assert {(r.distortion, r.level) for r in d.records} == {("hevc_intra+downscale", 0)}
    assert (min(r.mos for r in d.records), max(r.mos for r in d.records)) == (1.0, 4.619048)


def test_live_subset_is_lower_better(shared):
    options = {"label_column": "dmos", "group_column": "content", "score_range": (0, 100), "higher_is_better": False}
    d = load("folder", shared / "data/mos/live_subset", **options)
    assert len(d) == 34 and {r.reference for r in d.records} == {"monarch", "sailing1"}
    mos = np.array([r.mos for r in d.records])
    assert mos.min() == 3.219737 and mos.max() == 97.512095
    assert d.scale.to_score01(mos).argmax() == mos.argmin()


def test_without_a_group_every_picture_is_its_own(tmp_path):
    d = load("folder", write(tmp_path, "path,mos\nb.png,2\na.png,4.5\n"))
    assert [(r.id, r.mos, r.reference, r.distortion, r.level) for r in d.records] == [
        ("b.png", 2.0, "", "", 0),
        ("a.png", 4.5, "", "", 0),
    ]


def test_a_csv_in_place_of_its_folder(tmp_path):
    file = write(tmp_path, "path,mos\na.png,2\n") / "index.csv"
    with refused(DataError, "format", str(file), str(tmp_path), "--option csv=index.csv"):
        load("folder", file)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,mos\na.png,2\nb.png,3\n",
        b"path,mos\r\na.png,2\r\nb.png,3\r\n",
        b"path;mos\na.png;2\nb.png;3",
        b"path\tmos\na.png\t2\nb.png\t3\n",
        b'"path","mos"\n"a.png","2"\n\n"b.png" , "3"\n'.replace(b" , ", b","),
        b" path , mos \n a.png , 2 \n./b.png,3\n\n",
        b"path;mos;r1,r2,r3,r4\na.png;2;1,2,3,4\nb.png;3;1,2,3,4\n",
    ],
    ids=["bom", "crlf", "semicolon", "tab", "quoted", "spaces", "commas-in-a-semicolon-file"],
)
def test_csv_as_spreadsheets_write_it(tmp_path, text):
    d = load("folder", write(tmp_path, text))
    assert [(r.id, r.mos) for r in d.records] == [("a.png", 2.0), ("b.png", 3.0)]


def test_names_with_commas_quotes_and_umlauts(tmp_path):
    name = 'Bär, "der", 1.png'
    text = 'path,mos\n"Bär, ""der"", 1.png",2\n'
    assert load("folder", write(tmp_path, text, (name,))).records[0].id == name


def test_every_fault_is_listed_at_once_with_its_line(tmp_path):
    rows = ["a.png,2.0", "b.png,", "c.png,n/a", "gone.png,3", "../a.png,3", "/etc/passwd,3", "a.png,4"]
    rows += ["d.png,nan", "e.png,6", '"f.png","3,5"', "g.png,3,5", "C:\\x.png,1", "h.png,1_0"]
    pictures = [f"{c}.png" for c in "abcdefgh"]
    expected = {
        checks.EMPTY_LABELS: ["index.csv:3"],
        checks.NO_NUMBERS: ["index.csv:4 'n/a'", "index.csv:14 '1_0'"],
        checks.MISSING_IMAGES: ["index.csv:5 gone.png"],
        "leave the folder": ["index.csv:6 '../a.png'", "index.csv:7 '/etc/passwd'", "index.csv:13 'C:\\\\x.png'"],
        checks.REPEATED_ROWS: ["index.csv:8 a.png (as index.csv:2)"],
        checks.NON_FINITE_LABELS: ["index.csv:9 'nan'"],
        checks.outside(1, 5): ["index.csv:10 6"],
        checks.DECIMAL_COMMAS: ["index.csv:11 '3,5'"],
        checks.incomplete_rows("exactly 2 cells"): ["index.csv:12 has 3"],
    }
    with faulty(tmp_path, expected) as e:
        load("folder", write(tmp_path, "path,mos\n" + "\n".join(rows) + "\n", pictures))
    assert e.value.exit_code == 3 and len(e.value.faults) == 9
    first = str(e.value).splitlines()[0]
    assert f"1 {checks.EMPTY_LABELS.text}" in first and f"2 {checks.NO_NUMBERS.text}" in first


def test_ten_of_many_faults_are_written_out(tmp_path):
    rows = [f"{i}.png,3" for i in range(1234)]
    with refused(DataError, "faults", tmp_path, "1,234", "index.csv:11 9.png", "1,224") as e:
        load("folder", write(tmp_path, "path,mos\n" + "\n".join(rows)))
    assert "index.csv:12 10.png" not in str(e.value) and len(e.value.faults[0].where) == 1234


def test_lines_are_counted_through_quoted_line_breaks(tmp_path):
    with faulty(tmp_path, {checks.NO_NUMBERS: ["index.csv:4 'x'"]}):
        load("folder", write(tmp_path, 'path,mos,note\na.png,2,"two\nlines"\nb.png,x,\n'))


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("path,moss\na.png,2\n", "missing", ("'mos'", "path, moss", "--config.dataset.label_column=moss")),
        ("path,mos,mos\na.png,2,3\n", "format", ("'mos'", "2 times")),
        ("path,mos\n", "empty", ()),
        ("", "empty", ()),
        ('path,mos\n"a.png,2\n', "format", ("index.csv:2:", "unexpected end of data")),
        ("path,mos\na.png,2\nbär.png,3\n".encode("latin-1"), "format", ("index.csv:3", "UTF-8")),
        ("path,mos\na.png,2\n".encode("utf-16-le"), "format", ("index.csv", "UTF-8")),
    ],
    ids=["typo", "twice", "header-only", "empty", "open-quote", "latin-1", "utf-16-without-bom"],
)
def test_unreadable_tables(tmp_path, text, code, says):
    with refused(DataError, code, tmp_path / "index.csv", *says):
        load("folder", write(tmp_path, text))


def test_no_csv_and_another_name(tmp_path):
    write(tmp_path, "path,mos\na.png,2\n")
    (tmp_path / "index.csv").rename(tmp_path / "scores.csv")
    with refused(DataError, "not_found", tmp_path / "index.csv"):
        load("folder", tmp_path)
    assert len(load("folder", tmp_path, csv="scores.csv")) == 1


def test_a_picture_without_group_is_refused(tmp_path):
    text = "path,mos,scene\na.png,2,x\nb.png,3,\n"
    with faulty(tmp_path, {checks.incomplete_rows("a scene"): ["index.csv:3"]}):
        load("folder", write(tmp_path, text), group_column="scene")


def test_a_directory_is_no_picture(tmp_path):
    (tmp_path / "d.png").mkdir()
    with faulty(tmp_path, {checks.MISSING_IMAGES: ["index.csv:2 d.png"]}):
        load("folder", write(tmp_path, "path,mos\nd.png,2\n"))


@pytest.mark.parametrize("score_range", [(5, 1), (1,), (1, float("nan")), "ab", 5])
def test_bad_ranges(tmp_path, score_range):
    with refused(ConfigError, "value", "score_range", repr(score_range)):
        load("folder", write(tmp_path, "path,mos\na.png,2\n"), score_range=score_range)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Image Name,Mean Opinion Score\na.png,2\nb.png,3\n", ("Image Name", "Mean Opinion Score")),
        ("filename,score\na.png,2\nb.png,3\n", ("filename", "score")),
        ("Unnamed: 0,img,MOS,mos_std\n0,a.png,2,1\n1,b.png,3,1\n", ("img", "MOS")),
        ("a.png,2\nb.png,3\n", ("no header", "column 2")),
        ("a.png 2\nb.png 3\n", ("white space", "no header", "column 2")),
        ("2.0 a.png\n3.0 b.png\n", ("no header", "column 1")),
        ("a.png;2,0\nb.png;3,0\n", ("semicolons", "decimal commas", "no header")),
        ("path,mos\nA.PNG,2\nB.png,3\n", ("2 of 2", "A.PNG")),
        ("path,mos\na.bmp,2\nb.bmp,3\n", ("a.bmp as a.png",)),
        ("path,mos\nD:\\set\\a.png,2\nD:\\set\\b.png,3\n", ("D:\\set\\a.png as a.png",)),
        ("path,mos\na.png,2\na.png,2\nb.png,3\n", ("1 rows",)),
    ],
)
def test_what_is_interpreted_is_said_in_one_line(tmp_path, capsys, text, said):
    d = load("folder", write(tmp_path, text))
    assert [(r.id, r.mos) for r in d.records] == [("a.png", 2.0), ("b.png", 3.0)]
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and all(text in printed for text in said), printed


def test_what_is_plain_is_not_said(tmp_path, capsys):
    load("folder", write(tmp_path, f"path,mos\n{tmp_path}/a.png,2\n./b.png,3\n"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,mos_quality,mos_align\na.png,2,3\n", ("mos_quality, mos_align", "label_column=mos_quality")),
        ("image,file,mos\na.png,a.png,2\n", ("image, file", "path_column=image")),
        ("image,DMOS\na.png,2\n", ("label_column=DMOS", "higher_is_better=False")),
        ("id,image,note\n7,a.png,2\n", ("label_column=note",)),
        ("foto,note\na.png,2\n", ("path_column=foto", "label_column=note")),
        ("a.png,2,0.5\n", ("no header", "path,mos,column3")),
        ("ref.png a.png 2 0.5\n", ("no header", "path,column2,mos,column4")),
    ],
)
def test_an_uncertain_table_is_refused_with_the_options_to_add(tmp_path, text, says):
    with refused(DataError, "missing", tmp_path / "index.csv", *says):
        load("folder", write(tmp_path, text))


def test_columns_that_the_user_names_are_not_guessed(tmp_path):
    write(tmp_path, "image,MOS,quality\na.png,2,3\n")
    assert load("folder", tmp_path, label_column="quality").records[0].mos == 3.0
    with refused(DataError, "missing", tmp_path / "index.csv", "'score'"):
        load("folder", tmp_path, label_column="score")


def test_a_lossy_or_misplaced_copy_is_named_and_not_read(tmp_path):
    places = ["index.csv:3 b.bmp (there is b.jpg, in a lossy format)", "index.csv:4 c.png (there is old/c.png)"]
    (tmp_path / "old").mkdir()
    with faulty(tmp_path, {checks.MISSING_FILES: places}):
        load("folder", write(tmp_path, "path,mos\na.png,2\nb.bmp,3\nc.png,3\n", ("a.png", "b.jpg", "old/c.png")))


def test_percent_signs(tmp_path):
    with faulty(tmp_path, {checks.PERCENT_SIGNS: ["index.csv:2 '85%'"]}):
        load("folder", write(tmp_path, "path,mos\na.png,85%\nb.png,3\n"))
