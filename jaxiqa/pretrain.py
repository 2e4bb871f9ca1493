"""Pretrain an encoder to tell distortions apart, by supervised contrastive learning on pristine pictures.

  python -m jaxiqa.pretrain --config configs/dan_folder.py --workdir workdir/dan --config.pictures=/path/to/pictures

Any folder of good photographs will do: they are distorted on the device, inside the training step, by 24 types at five
levels. Crops with the same distortion attract one another, all others repel (config.label_mode says what is the same).
The result is the distortion-aware branch of MFEN: --config.init.dan=workdir/dan.

Every evaluation fits a linear probe of the distortion's type on pictures that are never trained on and prints its
accuracy beside that of the untrained encoder. The workdir receives config.json, metrics.jsonl, TensorBoard event files,
checkpoints (the latest two and the best), ledger.json (where the time went), and at the end report.json,
probe_STEP.npz, a confusion matrix and a loss curve. The same command again resumes from the last checkpoint; one that
is damaged is set aside in quarantine/ and the one before it is used. --override lets a run go on with another
optimizer, schedule or total; --allow_restart lets it start anew where every checkpoint is damaged.

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
from jaxiqa.tasks.contrastive import Pretraining
from jaxiqa.training import sharding
from jaxiqa.training.loop import fit

_CONFIG, _WORKDIR, _OVERRIDE, _ALLOW_RESTART = program.training_flags()
_CLUSTER = program.cluster_flags()


def pretrain(
    config: ConfigDict, workdir: epath.PathLike, override: bool = False, allow_restart: bool = False
) -> dict[str, float]:
    """Pretrains, or resumes, and returns the probe's accuracies (see the module's docstring)."""
    with Run(workdir, override, allow_restart) as run:
        return fit(run, Pretraining(config, sharding.make_mesh(**config.mesh)))


def main() -> None:
    """The program."""
    config = program.read_config(_CONFIG, "pretrain")
    if not _WORKDIR.value:
        raise ConfigError("--workdir is missing; name a folder for the run, e.g. --workdir workdir/dan")
    with processes.start(_WORKDIR.value, **_CLUSTER(), report=program.report):
        pretrain(config, _WORKDIR.value, _OVERRIDE.value, _ALLOW_RESTART.value)


if __name__ == "__main__":
    program.run(main)
