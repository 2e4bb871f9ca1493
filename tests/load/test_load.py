"""The short forms of python -m tests.load --long (1,000 small images, killed and resumed) and --serve."""

import pyarrow.compute as pc
import pytest

from tests.load import serve
from tests.load.job import rows, score, write_checkpoint, write_images


@pytest.mark.slow
def test_a_killed_job_is_resumed_to_the_rows_of_an_unbroken_one(tmp_path):
    write_images(tmp_path, 1000)
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    whole = score(tmp_path / "images", checkpoint, tmp_path / "whole", "--shard_size=100")
    assert not whole.killed and "scored 990, refused 10" in whole.text
    assert score(tmp_path / "images", checkpoint, tmp_path / "broken", "--shard_size=100", kill_after=3).killed
    rest = score(tmp_path / "images", checkpoint, tmp_path / "broken", "--shard_size=100")
    assert not rest.killed and "scored 990, refused 10" in rest.text and "are not scored again" in rest.text
    found = rows(tmp_path / "broken")
    assert found.num_rows == 1000 and found.equals(rows(tmp_path / "whole"))
    assert pc.sum(pc.equal(found["status"], "refused")).as_py() == 10


@pytest.mark.slow
def test_a_server_under_many_requests(tmp_path):
    good, bad = serve.write_files(tmp_path)
    seen = serve.run(good, bad, 300, 200, 8, "--checkpoint", str(write_checkpoint(tmp_path / "checkpoint")))
    assert seen.faults() == [] and set(seen.statuses) == {200, 415}, seen
