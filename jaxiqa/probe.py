"""Make a checkpoint explain its scores by kinds of distortion.

  jaxiqa probe --checkpoint workdir/mine photographs/
  jaxiqa score --checkpoint workdir/mine photo.jpg --explain

PATH... are files and folders of undistorted photographs, 4 or more, better 50. They need no ratings. Their crops are
distorted by KADID-10k's 25 types at five levels. A linear probe of the model's features learns to recognise the type
and the strength of the distortion, and undistorted crops. Three quarters of the photographs are for the fit. The
program measures the probe on the others. It takes about two minutes on a CPU, and a few seconds more for
each photograph with a large model.

The probe is written into the folder of the checkpoint as probe.npz, in place of an older one. It belongs to one step:
--explain refuses it for other weights. The scores do not change. The checkpoint that comes with jaxiqa has a probe.

Exit codes: 0 done, 2 usage, 3 no photographs, or one that cannot be read, 4 unusable checkpoint, 75 disk full.
"""

from absl import flags

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS, "none, one must be named")
_STEP = shared_flags.step(_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)


def main(paths: list[str]) -> None:
    """The program."""
    if not paths:
        raise ConfigError(
            "there are no photographs; name files or folders: jaxiqa probe --checkpoint DIR PATH...",
            code="missing",
            key="photographs",
        )

    from jaxiqa.models import ready

    if not _CHECKPOINT.value or _CHECKPOINT.value == ready.NAME:
        raise ConfigError(
            f'--checkpoint is missing or "{ready.NAME}", which has a probe; name the workdir of a training run, or the '
            "folder of a converted checkpoint",
            code="missing",
            key="--checkpoint",
        )

    from jaxiqa.runs import compile_cache, portable
    from jaxiqa.scoring import explain, reasons
    from jaxiqa.scoring.scorer import Scorer

    compile_cache.enable()
    scorer = Scorer(_CHECKPOINT.value, _STEP.value, allow=_ALLOW.value)
    if portable.is_one(scorer.workdir):
        raise ConfigError(
            f"--checkpoint {_CHECKPOINT.value} has the format of a hub, which cannot hold a probe; name the folder "
            "that it was made from",
            code="conflict",
            key="--checkpoint",
        )
    probe = reasons.fit_folders(scorer.model, scorer.card, scorer.variables, paths, scorer.digest)
    path = scorer.workdir / explain.FILE
    with program.writes_output(path, "--checkpoint"):
        probe.save(path)
    print(explain.describe_probe(probe.about))
    print(f"{path} is written: jaxiqa score --checkpoint {scorer.workdir} PATH... --explain")


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
