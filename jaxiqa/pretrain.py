"""Pretrain an encoder to tell distortions apart.

  jaxiqa pretrain --config dan_folder --workdir workdir/dan --config.pictures=/path/to/images

The encoder learns by supervised contrastive learning. It needs a folder of undistorted photographs and no ratings.
The training step distorts crops on the device, with 24 types at five levels. The loss makes features of crops with the
same distortion similar and features of all other crops dissimilar (config.label_mode defines "the same"). The result is
the distortion-aware branch of MFEN (--config.init.dan=workdir/dan).

Each evaluation fits a linear probe of the distortion type on images that are never trained on. It prints the accuracy
of the probe beside that of the untrained encoder and of the encoder in config.init.encoder.

Repeat the command to resume from the last checkpoint. A damaged checkpoint is moved to quarantine/, and the run
resumes from the one before it. --override resumes with other hyperparameters of the optimizer, or another schedule
or total. --allow_restart starts again at step 0 if every checkpoint is damaged.

The workdir receives:
  config.json                  the complete config
  metrics.jsonl, tensorboard/  losses and probe accuracies
  checkpoints/                 the latest two and the best
  ledger.json                  how the time was spent
  report.json, probe_STEP.npz, a confusion matrix and a loss curve: the result

On many hosts, start the same command on each of them (launch/README.md).

Exit codes: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint, 5 NaN or infinite loss, 6 workdir in use, 75
try again (disk full, a host is missing), 130 or 143 stopped by Ctrl-C or SIGTERM after a save.
"""

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from jaxiqa import program, shared_flags
from jaxiqa.config import complete
from jaxiqa.errors import ConfigError

_FLAGS = flags.FlagValues()
_CONFIG = shared_flags.config(_FLAGS, "contrastive")
_WORKDIR = shared_flags.workdir(_FLAGS)
_OVERRIDE = shared_flags.override(_FLAGS)
_ALLOW_RESTART = shared_flags.allow_restart(_FLAGS)
_CLUSTER = shared_flags.cluster(_FLAGS)


def pretrain(
    config: ConfigDict, workdir: epath.PathLike, override: bool = False, allow_restart: bool = False
) -> dict[str, float]:
    """Pretrains or resumes an encoder. Returns the accuracies of the probe. See the docstring of the module."""
    from jaxiqa.runs.run import Run
    from jaxiqa.tasks.contrastive import Pretraining
    from jaxiqa.training import sharding
    from jaxiqa.training.loop import fit

    config = complete(config, "contrastive")
    with Run(workdir, override, allow_restart) as run:
        return fit(run, Pretraining(config, sharding.make_mesh(**config.mesh)))


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG)
    if not _WORKDIR.value:
        raise ConfigError(
            "--workdir is missing; name a folder for the run, e.g. --workdir workdir/dan",
            code="missing",
            key="--workdir",
        )
    from jaxiqa.runs import processes

    with processes.start(_WORKDIR.value, **_CLUSTER(), report=program.report):
        pretrain(config, _WORKDIR.value, _OVERRIDE.value, _ALLOW_RESTART.value)


if __name__ == "__main__":
    program.run(main, _FLAGS)
