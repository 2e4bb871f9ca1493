"""Jobs: sources to shards, shards to Parquet files, and what a job that was stopped resumes."""

import io
import json
import math
import pathlib
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from refused import refused

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.scoring.jobs import tables
from jaxiqa.scoring.jobs.local import score_shards, write_shards
from jaxiqa.scoring.jobs.plan import Shard, make_shards
from jaxiqa.scoring.jobs.results import Results, metadata_of
from jaxiqa.scoring.jobs.row_files import writing_rows
from jaxiqa.scoring.meter import Meter


def data_of(paths):
    return [pathlib.Path(path).read_bytes() for path in paths]


def write_tar(path, names, data):
    with tarfile.open(path, "w") as archive:
        for name, content in zip(names, data, strict=True):
            for member, body in ((name, content), (f"{name}.json", b"{}")):
                info = tarfile.TarInfo(member)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))


@pytest.fixture(scope="session")
def sources(once, some):
    """{source: path} of the images of `some`, in the same order."""

    def write(folder):
        data, names = data_of(some), [path.rpartition("/")[2] for path in some]
        table = pa.table({"__key__": names, "jpg": data})
        pq.write_table(table, folder / "bytes.parquet", row_group_size=7)
        pq.write_table(pa.table({"url": some, "n": range(20)}), folder / "paths.parquet")
        hugging_face = pa.table({"image": [{"bytes": b, "path": n} for b, n in zip(data, names, strict=True)]})
        with pa.OSFile(str(folder / "stream.arrow"), "wb") as file, pa.ipc.new_stream(file, hugging_face.schema) as out:
            out.write_table(hugging_face, max_chunksize=3)
        pyarrow.feather.write_feather(table, str(folder / "file.feather"), compression="uncompressed")
        write_tar(folder / "web.tar", names, data)
        (folder / "list.txt").write_text("\n".join(some))
        found = {path.name: str(path) for path in folder.iterdir()}
        found["list.txt"] = f"@{found['list.txt']}"
        return {**found, "address": f"file://{some[0]}"}

    return once("sources", write)


@pytest.mark.parametrize(
    "name", ["bytes.parquet", "paths.parquet", "stream.arrow", "file.feather", "web.tar", "list.txt"]
)
def test_every_source_gives_the_same_images(sources, some, name):
    shards = list(make_shards([sources[name]], 8))
    rows = [row for shard in shards for row in shard.rows()]
    assert [len(list(shard.rows())) for shard in shards] == ([20] if len(shards) == 1 else [8, 8, 4])
    images = [pathlib.Path(image).read_bytes() if isinstance(image, str) else image for _, image in rows]
    assert images == data_of(some)
    ends = [name.rpartition("/")[2] for name, _ in rows]
    assert ends == [path.rpartition("/")[2] for path in some]
    for shard in shards:
        again = json.loads(json.dumps(vars(shard)))
        assert Shard(**{**again, "files": tuple(again["files"])}) == shard


def test_shards_of_mixed_sources(sources, some):
    words = [some[0], some[1], sources["web.tar"], sources["address"], some[2]]
    shards = list(make_shards(words, 10))
    assert [len(shard.files) for shard in shards] == [2, 0, 2] and shards[1].table == sources["web.tar"]
    with refused(DataError, "not_found", "gone.tar"):
        list(make_shards(["gone.tar"], 10))


def test_which_column(sources, tmp_path):
    two = tmp_path / "two.parquet"
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"], "c": ["x.jpg"]}), two)
    for column, key in ((None, "--column"), ("d", "--column")):
        with refused(DataError, "missing", key):
            list(make_shards([str(two)], 5, column))
    assert list(Shard(table=str(two)).rows("b")) == [(f"{two}#0", b"2")]
    (tmp_path / "x.jpg").write_bytes(b"3")  # relative paths of a table, beside it
    assert list(Shard(table=str(two)).rows("c")) == [(str(tmp_path / "x.jpg"),) * 2]


@pytest.mark.parametrize("name", ["web.tar", "bytes.parquet", "stream.arrow"])
def test_a_damaged_table_has_a_row_that_says_so(sources, tmp_path, name):
    cut = tmp_path / name
    with open(sources[name], "rb") as file:
        data = file.read()
    cut.write_bytes(data[: len(data) // 2])
    *rows, (path, error) = [row for shard in make_shards([str(cut)], 50) for row in shard.rows()]
    assert path == str(cut) and isinstance(error, DataError) and error.code == "damaged" and len(rows) < 20


def test_pyarrow_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with refused(ConfigError, "package", "pyarrow"):
        list(tables.parts("a.parquet", 5, None))


@pytest.fixture
def job(scorer, tmp_path):
    """start(shards): a started job and the number of its shards."""
    about = {"digest": scorer.digest, "command": "jaxiqa score"}

    def start(shards, **settings):
        results = Results(tmp_path / "out", ("path", *scorer.columns), about)
        return results, results.start({"crops": "auto:2", **settings}, shards)

    return start


def test_a_stopped_job_resumes_to_the_same_rows(scorer, some, job, tmp_path):
    results, count = job(make_shards(some, 6))
    assert count == 4
    whole = list(write_shards(results, range(count), scorer))
    files = {number: results.file(number).read_bytes() for number in range(count)}
    for number in (1, 3):
        results.file(number).unlink()
    (results.folder / "_part-000001.parquet.7.tmp").write_bytes(b"what a killed process leaves")
    read = pq.read_table(results.folder)  # a folder in this state can be read
    assert read.num_rows == 12
    results, count = job(iter(()))  # the images are not listed again
    results.discard_unfinished()
    assert count == 4 and results.finished() == {0, 2} and not list(results.folder.glob("_part*"))
    assert len(list(write_shards(results, (1, 3), scorer))) == 8
    assert {number: results.file(number).read_bytes() for number in range(count)} == files
    rows = list(results.rows(("path", "score", "reason")))
    assert [row["path"] for row in rows] == [row["path"] for row in whole] == some
    np.testing.assert_array_equal([row["score"] for row in rows], [row["score"] for row in whole])
    about = metadata_of(results.file(0))
    assert about == {"digest": scorer.digest, "command": "jaxiqa score"}


def test_an_error_in_a_shard_leaves_no_file(scorer, some, job):
    results, _ = job(make_shards(some, 10))
    rows = write_shards(results, (0, 1), scorer)
    for _ in range(12):
        next(rows)
    rows.close()
    assert results.finished() == {0} and [path.name for path in results.folder.glob("*part*")] == [
        "part-000000.parquet"
    ]


def test_another_command_is_refused(some, job, tmp_path):
    job(make_shards(some, 6))
    with refused(ConfigError, "changed", "--output"):
        job(make_shards(some, 6), crops="grid")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with refused(ConfigError, "conflict", "--output"):
        Results(tmp_path / "mine", ("path",), {}).start({}, make_shards(some, 6))


def test_a_list_that_was_not_finished_is_made_again(some, job):
    def stopped():
        yield Shard(tuple(some[:3]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(stopped())
    assert job(make_shards(some, 6))[1] == 4


def test_names_that_are_no_text(scorer, job):
    results, _ = job([Shard(("gone \udcff.jpg",))])
    list(write_shards(results, (0,), scorer))
    (row,) = results.rows(("path", "score", "reason"))
    assert row["path"] == "gone \\udcff.jpg" and math.isnan(row["score"]) and row["reason"]


def test_shards_do_not_share_batches(scorer, some):
    shards = list(enumerate(make_shards(some, 5)))
    together = [row["score"] for _, row in score_shards(scorer, shards) if row]
    apart = [row["score"] for shard in reversed(shards) for _, row in score_shards(scorer, [shard]) if row]
    np.testing.assert_array_equal(together, np.concatenate([apart[15:], apart[10:15], apart[5:10], apart[:5]]))


@pytest.mark.parametrize("rows", [[], [{"path": "a\udcff", "score": 1.5}, {"path": "b", "score": ""}]])
def test_json_is_written_row_by_row(tmp_path, rows):
    from etils import epath

    from jaxiqa.files import json_text

    out = epath.Path(tmp_path / "a.json")
    with writing_rows(out, {"checkpoint": "x", "scale": {"lo": 1}}, ("path", "score")) as write:
        for row in rows:
            write(row)
    shown = [{"path": row["path"], "score": row["score"] or None} for row in rows]
    assert out.read_text() == json_text({"checkpoint": "x", "scale": {"lo": 1}, "pictures": shown}, 1)


def test_the_meter_says_what_limits(monkeypatch):
    now = iter([0.0, 1.0, 1.0, 2.0, 5.0, 6.0])  # two images of a second each; two batches, of three seconds and of one
    meter = Meter()
    monkeypatch.setattr(meter, "now", lambda: next(now))
    for _ in range(2):
        with meter.reading():
            pass
    meter.computed(2.0)
    meter.computed(4.0)  # it waited for the first
    rates = meter.rates(readers=2)
    assert rates == (2.0, 0.5) and "the model limits" in str(rates)
