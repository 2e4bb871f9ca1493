"""Train an image quality model on images with opinion scores.

  jaxiqa train --config glintiqa_sample --workdir workdir/quickstart

--config is a file or the name of an experiment that ships with jaxiqa (`jaxiqa configs` lists them). Every key of the
config can be set on the command line: --config.batch_size=32 --config.total="20 epochs".

Repeat the command to resume from the last checkpoint. A damaged checkpoint is moved to quarantine/, and the run resumes
from the one before it. --override resumes with other hyperparameters of the optimizer, or another schedule, loss or
total. --allow_restart starts again at step 0 if every checkpoint is damaged.

The workdir receives:
  config.json, split.json      the complete config; which images train, validate and test
  metrics.jsonl, tensorboard/  losses and validation metrics
  checkpoints/                 the latest two and the best
  ledger.json                  how the time was spent
  report.html, report.json, predictions_test.csv and figures: the result on the test part

On many hosts, start the same command on each of them (launch/README.md).

Exit codes: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint, 5 NaN or infinite loss, 6 workdir in use,
75 try again (disk full, a host is missing), 130 or 143 stopped by Ctrl-C or SIGTERM after a save.
"""

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from jaxiqa import program, shared_flags
from jaxiqa.config import complete
from jaxiqa.errors import ConfigError

_FLAGS = flags.FlagValues()
_CONFIG = shared_flags.config(_FLAGS, "quality")
_WORKDIR = shared_flags.workdir(_FLAGS)
_OVERRIDE = shared_flags.override(_FLAGS)
_ALLOW_RESTART = shared_flags.allow_restart(_FLAGS)
_CLUSTER = shared_flags.cluster(_FLAGS)


def train(
    config: ConfigDict, workdir: epath.PathLike, override: bool = False, allow_restart: bool = False
) -> dict[str, float]:
    """Trains or resumes a model. Returns its test metrics. See the docstring of the module."""
    from jaxiqa.runs.run import Run
    from jaxiqa.tasks.quality import Quality
    from jaxiqa.training import sharding
    from jaxiqa.training.loop import fit

    config = complete(config, "quality")
    with Run(workdir, override, allow_restart) as run:
        return fit(run, Quality(config, sharding.make_mesh(**config.mesh)))


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG)
    if not _WORKDIR.value:
        raise ConfigError(
            "--workdir is missing; name a folder for the run, e.g. --workdir workdir/quickstart",
            code="missing",
            key="--workdir",
        )
    from jaxiqa.runs import processes

    with processes.start(_WORKDIR.value, **_CLUSTER(), report=program.report):
        train(config, _WORKDIR.value, _OVERRIDE.value, _ALLOW_RESTART.value)


if __name__ == "__main__":
    program.run(main, _FLAGS)
