"""Progress lines of a run."""

import contextlib
import re

from jaxiqa.runs import log
from jaxiqa.runs.log import MetricLog, read_metrics


def test_slow_steps_show_progress_each_minute(tmp_path, monkeypatch, capsys):
    """The compilation takes 100 s, then a step of 100 images takes 25 s. The file has the lines that are due."""
    now = 0.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    with contextlib.closing(MetricLog(tmp_path, 0, 20, 100)) as metrics:
        for step in range(1, 11):
            now += 100 if step == 1 else 25
            metrics.write_step((step, {"loss": 0.5, "learning_rate": 0.1, "grad_norm": 1.0}), 10)
    printed = re.findall(r"step (\d+)/20 .* ([\d.]+) images/s  ETA (\S+)", capsys.readouterr().out)
    assert printed == [("4", "4.0", "0:06:40"), ("7", "4.0", "0:05:25"), ("10", "4.0", "0:04:10")]
    assert [line["step"] for line in read_metrics(tmp_path)] == [10]


def test_the_first_step_tells_no_rate(tmp_path, capsys):
    with contextlib.closing(MetricLog(tmp_path, 0, 2, 1)) as metrics:
        for step in (1, 2):
            metrics.write_step((step, {"loss": 0.5, "learning_rate": 0.1, "grad_norm": 1.0}), 1)
    first, second = capsys.readouterr().out.splitlines()
    assert "images/s" not in first and "images/s" in second
