"""jaxiqa score for sets: a folder of results that is resumed, a page, lists; jaxiqa compare of two results."""

import csv
import json
import shutil

import pyarrow.parquet as pq
import pytest
from ready_stand_in import write_stand_in
from tiny_run import check_refusals, run_program

from jaxiqa.scoring.jobs.results import metadata_of


@pytest.fixture(scope="module")
def scored(once, pictures, tmp_path_factory):
    """A finished job of 16 images, with all answers: its folder, and what the program wrote."""
    folder = tmp_path_factory.mktemp("job")
    checkpoint = once("ready", write_stand_in)
    shutil.copytree(pictures, folder / "images")
    (folder / "images" / "broken.png").write_bytes(b"")
    options = ["--shard_size=6", "--keep=score<1000", "--group_by=folder", "--report=set.html", "--batch_size=8"]
    arguments = ["--checkpoint", checkpoint, "images", "--output=out", *options]
    done = run_program("score", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, arguments, done


def test_a_job(scored):
    folder, _, done = scored
    assert done.stdout == "" and "scored 15, refused 1 " in done.stderr and " limits" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in folder.iterdir()) == [
        *("images", "out", "out.groups.csv", "out.kept.txt", "set.html"),
    ]
    table = pq.read_table(folder / "out")
    assert table.num_rows == 16 and table.column_names[:3] == ["path", "score", "native"]
    assert table.column_names[-2:] == ["dhash", "taken"]
    assert len(list((folder / "out").glob("part-*.parquet"))) == 3
    about = metadata_of(folder / "out" / "part-000002.parquet")
    assert about["model"]["name"] == "compact" and len(about["digest"]) == 64 and "score" in about["command"]
    kept = (folder / "out.kept.txt").read_text().splitlines()
    assert len(kept) == 15 and kept[0].startswith("images/")
    assert "<h2>By folder</h2>" in (folder / "set.html").read_text()


@pytest.mark.slow
def test_the_same_command_resumes(scored):
    folder, arguments, _ = scored
    before = pq.read_table(folder / "out")
    (folder / "out" / "part-000001.parquet").unlink()
    (folder / "set.html").unlink()
    (folder / "images" / "later.png").write_bytes(b"it is not in the list")
    done = run_program("score", *arguments, cwd=folder)
    assert done.returncode == 0 and "2 of 3 shards" in done.stderr and "scored 15, refused 1 " in done.stderr
    assert pq.read_table(folder / "out").equals(before) and (folder / "set.html").exists()
    again = run_program("score", *arguments, "--strict", cwd=folder)
    assert again.returncode == 3 and "3 of 3 shards" in again.stderr
    other = run_program("score", *arguments, "--crops=auto:2", cwd=folder)
    assert other.returncode == 2 and "crops was" in other.stderr.splitlines()[-1]


def test_results_are_compared(scored):
    folder, _, _ = scored
    rows = pq.read_table(folder / "out").select(["path", "score", "status"]).to_pylist()
    with open(folder / "worse.csv", "w", newline="") as file:
        out = csv.DictWriter(file, ["path", "score", "status"])
        out.writeheader()
        for i, row in enumerate(rows):
            out.writerow(row if row["score"] is None else {**row, "score": row["score"] - (30 if i < 4 else 0)})
    done = run_program("compare", "out", "worse.csv", "--output=drift.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "drift.json").read_text())
    worse = sum(row["score"] is not None for row in rows[:4])
    assert (found["images"], found["worse"], found["better"]) == (16, worse, 0) and len(found["lost_most"]) == worse
    assert f"worse by 5 points or more: {worse}" in done.stdout and (folder / "drift.png").exists()


REFUSED = [
    (["README.md", "--keep=score>1"], 2, "--keep", "--output"),
    (["README.md", "--report=x.pdf"], 2, "--report", ".html"),
    (["README.md", "--engine=ray"], 2, "--output"),
    (["README.md", "--engine=dask"], 2, "--engine"),
]


def test_refusals():
    check_refusals("score", REFUSED)
