"""CSV as spreadsheets, scripts and other countries write it: what is read, and what is refused."""

import pytest
from faulty import faulty
from refused import refused

from jaxiqa.datasets import checks
from jaxiqa.datasets.formats.tables import read_csv
from jaxiqa.errors import DataError

COLUMNS = ("path", "mos")


def read(tmp_path, text, columns=COLUMNS):
    file = tmp_path / "x.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    faults = checks.Faults("x", str(file))
    rows = read_csv(str(file), columns, faults)
    faults.refuse()
    return rows, faults


@pytest.mark.parametrize(
    "text",
    [
        "path,mos\na,1.5\nb,2.25\n".encode("utf-16"),
        "sep=;\r\npath;mos\r\na;1.5\r\nb;2.25\r\n",
        '"sep=\t"\npath\tmos\na\t1.5\nb\t2.25\n',
        "path;mos;\na;1.5;\nb;2.25;;\n;;\n",
        "path,mos,,\na,1.5\nb,2.25,,\n",
        ",path,mos\n0,a,1.5\n1,b,2.25\n",
        "path;mos\na;1,5\nb;2,25\n",
        "path\tmos\na\t1,5\nb\t2,25\n",
        'path,mos\na,"1,5"\nb,"2,25"\n',
        "path  mos\na     1.5\n\nb\t2.25\n",
        "Path, MOS \na,1.5\nb,2.25\n",
    ],
    ids=[
        "utf-16", "sep", "sep-tab", "trailing-semicolons", "unnamed-columns", "index-column", "semicolon-decimal",
        "tab-decimal", "quoted-decimal", "white-space", "case",
    ],
)  # fmt: skip
def test_the_same_rows_in_another_form(tmp_path, text):
    rows, _ = read(tmp_path, text)
    assert [(row["path"], row["mos"]) for _, row in rows] == [("a", "1.5"), ("b", "2.25")]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1,623.55", "365.2"), ["1623.55", "365.2"]),
        (("1,234,567", "12"), ["1234567", "12"]),
        (("1.623,55", "365,2"), ["1623.55", "365.2"]),
        (("0,524", "2"), ["0.524", "2"]),
        (("-1,5e-3", "n/a"), ["-1.5e-3", "n/a"]),
        (("1,524", "2"), ["1,524", "2"]),  # a thousand, or one and a half
        (("1,5", "2.5"), ["1,5", "2.5"]),
        (("a,b", "1,5"), ["a,b", "1,5"]),
    ],
)
def test_commas_in_numbers(tmp_path, cells, expected):
    rows, _ = read(tmp_path, "path,mos\n" + "".join(f'x,"{cell}"\n' for cell in cells))
    assert [row["mos"] for _, row in rows] == expected


def test_three_decimals_are_certain_where_semicolons_separate_cells(tmp_path):
    rows, _ = read(tmp_path, "path;mos\na;1,524\nb;2,118\n")
    assert [row["mos"] for _, row in rows] == ["1.524", "2.118"]


def test_lines_are_counted_below_sep(tmp_path):
    rows, _ = read(tmp_path, "sep=;\n\npath;mos\na;1\n")
    assert rows == [("x.csv:4", {"path": "a", "mos": "1"})]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("path,mos\na,1\n".encode("utf-16-be"), "format", ("UTF-8",)),
        (b"PK\x03\x04\x14\x00", "format", (".xlsx", "CSV")),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "format", (".xls", "CSV")),
        ("path,mos\nä,1\n".encode("cp1252"), "format", ("x.csv:2", "UTF-8")),
        ("a.png,1.5\nb.png,2\n", "missing", ("header", "path,mos")),
        ("Mos,MOS,path\n1,2,a\n", "missing", ("'mos'",)),
    ],
    ids=["utf-16-without-mark", "xlsx", "xls", "cp1252", "no-header", "two-of-a-name"],
)
def test_refused_with_the_remedy(tmp_path, text, code, says):
    with refused(DataError, code, tmp_path / "x.csv", *says):
        read(tmp_path, text)


def test_cells_beyond_the_header_are_a_fault(tmp_path):
    expected = {checks.incomplete_rows("exactly 2 cells"): ["x.csv:2 has 3", "x.csv:3 has 1"]}
    with faulty(tmp_path / "x.csv", expected):
        read(tmp_path, "path,mos\na,1,2\nb\nc,3\n")
