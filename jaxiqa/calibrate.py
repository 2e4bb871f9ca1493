"""Fit a checkpoint to your own ratings, with an interval.

  jaxiqa calibrate RATINGS.csv --output calibrated/mine
  jaxiqa calibrate RATINGS.csv --checkpoint workdir/mine --output calibrated/mine
  jaxiqa calibrate RATINGS.csv --checkpoint converted/resnet50 --output calibrated/resnet50

RATINGS.csv has a row for each image, with the columns path (relative to the file), mos (the mean opinion score) and
content (the scene). 50 to 500 ratings are enough; a few thousand are better. When errors are estimated, all ratings
of one content are left out together. --option names other columns and the rating scale, as for the dataset "folder":
  --option label_column=dmos --option higher_is_better=False --option "score_range=(0, 100)".

--checkpoint is one that gives scores, or a converted backbone, such as ResNet-50 (jaxiqa convert). Without it, the
model is the one that comes with jaxiqa ("ready"). These maps are tried:
  none            the model's scores, with 0 and 100 at the ends of your scale
  line, logistic  a rising curve through the model's scores; the order of the images stays
  ridge           a regression of the means and standard deviations of the model's features
Of the maps whose error for left-out contents is close to the smallest, the simplest is chosen. The errors of all maps
are printed with 95 % intervals. Nothing is written unless the error of the procedure is at least 5 % below that of a
constant, the mean opinion.

The output folder is a checkpoint for every program that takes one, and for config.init. Its card holds the scale and
the source of the calibration. With nine or more contents, it also has an interval that holds the opinions of 90 % of
images like the rated ones.

Exit codes: 0 done, 2 usage, 3 bad data or too few ratings, 4 unusable checkpoint, 75 disk full.
"""

import os

from absl import flags
from etils import epath

from jaxiqa import datasets, program, shared_flags
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.readers import folder
from jaxiqa.errors import ConfigError

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS)
_STEP = shared_flags.step(_FLAGS)
_CROPS = shared_flags.crops(_FLAGS)
_RESIZE = shared_flags.resize(_FLAGS)
_OPTION = shared_flags.option(_FLAGS)
_OUTPUT = shared_flags.output_folder(_FLAGS, "Folder of the new checkpoint")
_BATCH_SIZE = shared_flags.batch_size(_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)


def main(paths: list[str]) -> None:
    """The program."""
    if len(paths) != 1:
        raise ConfigError(
            f"name one CSV of ratings, not {len(paths)}: jaxiqa calibrate RATINGS.csv --output DIR",
            code="missing",
            key="RATINGS.csv",
        )
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the new checkpoint", code="missing", key="--output")
    output = epath.Path(_OUTPUT.value)
    if (output / "checkpoints").exists():
        raise ConfigError(
            f"--output {output} already holds a checkpoint; name another folder, or remove it",
            code="conflict",
            key="--output",
        )
    dataset = _ratings(paths[0])

    from jaxiqa.models import ready
    from jaxiqa.runs import compile_cache
    from jaxiqa.scoring import calibration

    compile_cache.enable()
    checkpoint = ready.by_default(_CHECKPOINT.value, "--checkpoint")
    source = calibration.open_source(checkpoint, _STEP.value, _CROPS.value, _RESIZE.value, _ALLOW.value)
    if seen := calibration.seen_in_training(source, dataset):
        print(
            f"note: {len(seen):,} of the {len(dataset):,} images, such as {seen[0]}, have the names of images that the "
            "checkpoint was trained on; if they are the same images, the errors and the interval are too small: rate "
            "other images"
        )
    predictions, features = calibration.predict(source, dataset, _BATCH_SIZE.value)
    choice = calibration.fit(source, dataset, predictions, features)
    contents = len({r.content for r in dataset.records})
    print(f"{len(dataset):,} ratings of {contents:,} contents, each predicted with its content left out:")
    rows = calibration.errors(dataset, choice)
    print(f"  {'':66}  RMSE   95 % interval     SRCC")
    for row in rows:
        rank = "" if row["kind"] == "constant" else f"{row['srcc']:7.3f}"
        print(f"  {row['what']:66}{row['rmse']:6.3f}  [{row['low']:.3f}, {row['high']:.3f}]  {rank}")
    with program.writes_output(output):
        card = calibration.write(source, dataset, predictions, choice, output, _BATCH_SIZE.value)
    if card.interval:
        print(
            f"the 90 % interval extends {card.interval['half_width']:.1f} of 100 to each side of a score"
            + (", more if the crops differ" if card.interval["spread_weight"] else "")
        )
    else:
        print("there is no interval for opinions, because an interval needs at least nine contents")
    print(f"{_KINDS[choice.kind]}; the checkpoint is in {output}: jaxiqa score --checkpoint {output} PATH...")


_KINDS = {
    "none": "the scores fit the ratings as they are",
    "line": "a line maps the scores to the ratings",
    "logistic": "a logistic curve maps the scores to the ratings",
    "ridge": "a ridge regression of the model's features predicts the ratings",
}


def _ratings(path: str):
    """The dataset of a CSV. If the flags name no column of contents, it is the one that the CSV seems to have."""
    home, name = os.path.split(os.path.abspath(path))
    options = {**datasets.default_options(folder.KEY), "csv": name, **parse_options(_OPTION.value)}
    if not os.path.isfile(path):
        raise ConfigError(f"{path} does not exist; name a CSV of ratings", code="not_found", key=path)
    if not options["group_column"]:
        columns = {key: options[key] for key in ("csv", "path_column", "label_column")}
        options["group_column"] = folder.contents_column(home, **columns)
        if options["group_column"]:
            print(f"note: the column {options['group_column']!r} names the contents")
        else:
            print(
                "note: no column names the contents (scenes), so each image counts as one; if several images show one "
                "scene, errors and interval come out too small: name the column by --option group_column=NAME"
            )
    return datasets.load(folder.KEY, home, **options)


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
