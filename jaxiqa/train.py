"""Train an image quality model on pictures with opinion scores.

  python -m jaxiqa.train --config configs/glintiqa_sample.py --workdir workdir/quickstart

Any value of the config can be given on the command line: --config.batch_size=32 --config.total="20 epochs".
The same command again resumes from the last checkpoint. The workdir receives config.json, split.json (what trains, what
tests), metrics.jsonl, TensorBoard event files, checkpoints (the latest two and the best), ledger.json (where the time
went), and at the end test scores (report.html, report.json, predictions_test.csv) with a loss curve, a scatter plot and
a contact sheet of the best and the worst predictions.

A checkpoint that is damaged is set aside in quarantine/ and the one before it is used. --override lets a run go on with
another optimizer, schedule, loss or total; --allow_restart lets it start anew where every checkpoint is damaged.

On many hosts start the same command on all of them (launch/README.md).

Exit codes: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint, 5 non-finite loss, 6 workdir in use, 75 try
again (disk full, a host is missing), 130 / 143 stopped by Ctrl-C / SIGTERM after a good save.
"""

from etils import epath
from ml_collections import ConfigDict

from jaxiqa import program
from jaxiqa.errors import ConfigError
from jaxiqa.runs import processes
from jaxiqa.runs.run import Run
from jaxiqa.tasks.quality import Quality
from jaxiqa.training import sharding
from jaxiqa.training.loop import fit

_CONFIG, _WORKDIR, _OVERRIDE, _ALLOW_RESTART = program.training_flags()
_CLUSTER = program.cluster_flags()


def train(
    config: ConfigDict, workdir: epath.PathLike, override: bool = False, allow_restart: bool = False
) -> dict[str, float]:
    """Trains, or resumes, and returns the test metrics (see the module's docstring)."""
    with Run(workdir, override, allow_restart) as run:
        return fit(run, Quality(config, sharding.make_mesh(**config.mesh)))


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG, "train")
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; name a folder for the run, e.g. --workdir workdir/quickstart")
    with processes.start(_WORKDIR.value, **_CLUSTER(), report=program.report):
        train(config, _WORKDIR.value, _OVERRIDE.value, _ALLOW_RESTART.value)


if __name__ == "__main__":
    program.run(main)
