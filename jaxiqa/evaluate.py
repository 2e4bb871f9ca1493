"""Compare a checkpoint's scores with opinion scores.

  jaxiqa evaluate --checkpoint workdir/mine
  jaxiqa evaluate --checkpoint workdir/mine --dataset kadid10k --data_dir /path/to/kadid10k
  jaxiqa evaluate --dataset kadid10k --data_dir /path/to/kadid10k
  jaxiqa evaluate --checkpoint workdir/mine --dataset folder --data_dir /path/to/folder \\
      --option label_column=dmos --option higher_is_better=False --option "score_range=(0, 100)"

The first command scores the test part of the dataset that the checkpoint was trained on. The others score all images of
another dataset ("cross-dataset"). Without --checkpoint, the model is the one that comes with jaxiqa ("ready"). --part
chooses another part. Images that were used for training are refused, unless --part is given.

Results:
  SRCC and PLCC with 95 % bootstrap intervals; the bootstrap draws whole contents (all images of one reference)
  PLCC after least-squares fits of logistic curves with 4 and 5 parameters; a fit that has not converged is marked
  KRCC, and RMSE on the dataset's own scale
  how many opinions the model's 90 % interval holds, and its mean width, if the model has an interval
  the fingerprint of the split, and the rule that selected the step (val: validation images; legacy: test part)

The output folder receives report.json, predictions_PART.csv (path, score, native, se, mos, reference, distortion,
level, lo, hi), scatter_PART.png, residuals_PART.png, contact_sheet_PART.png, and report.html, which shows all of them.

--robustness adds robustness.json and robustness.png: how much the score of the 12 best-rated images changes if they are
shifted by a pixel, mirrored, stored as JPEG of quality 95, resized by 1 % or framed, and whether the score falls from
level to level of 25 distortions. This takes 131 scores for each image.

Exit codes: 0 done, 2 usage, 3 bad data, 4 unusable checkpoint, 75 disk full.
"""

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import datasets, plugins, program, shared_flags
from jaxiqa.datasets.file_sizes import data_fingerprint
from jaxiqa.datasets.formats.split_files import read_own, what_changed
from jaxiqa.datasets.leakage import seen_references
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.splits import Split, make_split
from jaxiqa.errors import CheckpointError, ConfigError, DataError
from jaxiqa.evaluation.metrics import extra_metrics

if TYPE_CHECKING:
    from jaxiqa.scoring.scorer import Scorer

PARTS = ("train", "val", "test", "all")

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS)
_STEP = shared_flags.step(_FLAGS)
_CROPS = shared_flags.crops(_FLAGS)
_RESIZE = shared_flags.resize(_FLAGS)
_DATASET = shared_flags.dataset(_FLAGS, "to score; default: the one that the checkpoint was trained on")
_DATA_DIR = shared_flags.data_dir(_FLAGS, None, "; default: the one of the training")
_OPTION = shared_flags.option(_FLAGS)
_PART = flags.DEFINE_enum(
    "part",
    None,
    PARTS,
    "Part of the dataset to score; default: test for the dataset of the training, all for others.",
    flag_values=_FLAGS,
)
_OUTPUT = shared_flags.output_folder(
    _FLAGS,
    "Folder to write to; default: evaluation/DATASET_PART in the folder of the checkpoint; for ready and hf://..., in "
    "the current one",
)
_ALLOW = shared_flags.allow(_FLAGS)
_METRIC = flags.DEFINE_multi_string(
    "metric", [], "Another metric to report as MODULE:FUNCTION, e.g. mylab.metrics:ccc", flag_values=_FLAGS
)
_ROBUSTNESS = flags.DEFINE_bool(
    "robustness",
    False,
    "Also measure changes of score under changes that should not matter and under 25 distortions, on the best images.",
    flag_values=_FLAGS,
)
_BATCH_SIZE = shared_flags.batch_size(_FLAGS)


def main() -> None:
    """The program."""
    if not _CHECKPOINT.value and not _DATASET.value:
        raise ConfigError(
            "--checkpoint is missing; name the --workdir of a training run, or a --dataset to test the model that "
            "comes with jaxiqa",
            code="missing",
            key="--checkpoint",
        )

    from jaxiqa.inputs.image_source import Images
    from jaxiqa.inputs.render import render
    from jaxiqa.models import ready
    from jaxiqa.runs import compile_cache, portable
    from jaxiqa.scoring import robustness
    from jaxiqa.scoring.look import Look
    from jaxiqa.scoring.rated import describe, evaluate, provenance
    from jaxiqa.scoring.rated_report import write_results
    from jaxiqa.scoring.scorer import Scorer

    metrics = extra_metrics(_METRIC.value)
    compile_cache.enable()
    checkpoint = ready.by_default(_CHECKPOINT.value, "--checkpoint")
    scorer = Scorer(checkpoint, _STEP.value, _CROPS.value, _BATCH_SIZE.value, _RESIZE.value, allow=_ALLOW.value)
    dataset, data_dir, split, is_own = _data(scorer)
    part, own_split = _PART.value or ("test" if is_own else "all"), scorer.workdir / "split.json"
    if is_own and part != "all" and split.fingerprint != scorer.meta.split:
        raise DataError(
            f"{dataset.name} has changed since training ({what_changed(own_split, split, dataset)}; fingerprint of the "
            f"split {scorer.meta.split} then, {split.fingerprint} now), so test images may have been used for "
            "training; restore its images and labels, or score all images with --part all",
            code="changed",
            key=dataset.name,
        )
    if is_own and read_own(own_split).get("data", "") not in ("", data_fingerprint(dataset)):
        print(f"note: the labels or the image files of {dataset.name} are not those of the training")
    chosen = range(len(dataset)) if part == "all" else getattr(split, part)
    records = [dataset.records[i] for i in chosen]
    refuse_trained(scorer, dataset, data_dir, records)
    if seen := seen_references(scorer.meta.transferred, dataset, records):
        note = f"the model was trained on transferred scores of {len(seen)} of its references"
        dataset = dataclasses.replace(dataset, note="; ".join(filter(None, (dataset.note, note))))
    if is_own and part == "test" and split.selection == "val" and not scorer.card.interval:
        _add_interval(scorer, dataset, data_dir, split)
    dataset = render(dataset, data_dir, chosen)
    records = [dataset.records[i] for i in chosen]
    images = Images(records, scorer.predictor.min_side, scorer.card.resize)
    print(f"{scorer.card.model['name']} {scorer.card.model['variant']}, step {scorer.step} of {scorer.workdir}")
    if dataset.note:
        print(f"note: {dataset.note}")
    stream = scorer.predictor.stream(scorer.variables, images)
    bar = tqdm(stream, "scoring", len(records), unit=" images", mininterval=1, disable=None)
    results = evaluate(bar, records, dataset, scorer.card, metrics)
    not_ours = scorer.workdir == epath.Path(ready.FOLDER) or portable.is_one(scorer.workdir)  # nothing is written there
    home = epath.Path() if not_ours else scorer.workdir
    folder = epath.Path(_OUTPUT.value or home / "evaluation" / f"{dataset.name}_{part}")
    with program.writes_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
        summary = provenance(dataset, part, split, scorer.card)
        summary |= {"step": scorer.step, "checkpoint": str(scorer.workdir), "data_dir": data_dir}
        if not scorer.meta.config:
            summary["selection"] = "not known"  # for converted weights
        print(describe(write_results(folder, part, results, summary, Look(scorer)), metrics))
        if not is_own:
            _note_interval(scorer, dataset)
        if _ROBUSTNESS.value:
            best = sorted(records, key=lambda r: -dataset.scale.to_score01(r.mos))[: robustness.IMAGES]
            title = f"{scorer.card.model['name']}, best images of {dataset.name}"
            print(robustness.write(folder, robustness.measure(scorer, [r.path for r in best]), title))
    print(f"report.html, report.json, predictions_{part}.csv, scatter and contact sheet are in {folder}")


def _add_interval(scorer: "Scorer", dataset: Dataset, data_dir: str, split: Split) -> None:
    """Gives a run that has no interval for opinions, e.g. of an older version, that of its validation images."""
    from jaxiqa.evaluation import conformal
    from jaxiqa.inputs.image_source import Images
    from jaxiqa.inputs.render import render
    from jaxiqa.scoring.rated import evaluate
    from jaxiqa.scoring.stored_interval import write_interval

    if not conformal.enough([dataset.records[i].content for i in split.val]):
        return
    dataset = render(dataset, data_dir, split.val)
    records = [dataset.records[i] for i in split.val]
    images = Images(records, scorer.predictor.min_side, scorer.card.resize)
    interval = evaluate(scorer.predictor.stream(scorer.variables, images), records, dataset, scorer.card).interval()
    scorer.card = dataclasses.replace(scorer.card, interval=interval)
    with contextlib.suppress(OSError):  # the folder may be read-only
        write_interval(scorer.workdir, scorer.step, interval)


def _note_interval(scorer: "Scorer", dataset: Dataset) -> None:
    if scorer.card.interval:
        print(
            f"note: the interval was calibrated on {scorer.card.interval['of']}, not on images like those of "
            f"{dataset.name}; jaxiqa calibrate fits scores and interval to ratings of such images"
        )


def refuse_trained(scorer: "Scorer", dataset: Dataset, data_dir: str, records: list[Record]) -> None:
    """Raises DataError if records were used to train or to select the step, unless --part is given."""
    path = scorer.workdir / "split.json"
    if _PART.value or not path.exists():
        return
    if transferred := seen_references(scorer.meta.transferred, dataset, records):
        raise DataError(
            f"the model was trained on transferred scores of {len(transferred)} references of {dataset.name}, such as "
            f"{transferred[0]}, so the result would be too good; test on another dataset, or give --part all",
            code="leak",
            key=dataset.name,
        )
    own = scorer.meta.config.get("dataset", {}).get("data_dir", "")  # jaxiqa calibrate stores none
    seen = read_own(path)
    elsewhere = datasets.fact(dataset.name, "ANYONES") and os.path.realpath(data_dir) != os.path.realpath(own)
    if elsewhere and seen.get("data") != data_fingerprint(dataset):
        return  # other images may have the same names
    used = {*seen["train"], *seen["val"]} if seen.get("dataset") == dataset.name else set()
    if found := [r.id for r in records if r.id in used]:
        test = "omit --dataset to score the test part, or " if "dataset" in scorer.meta.config else ""
        raise DataError(
            f"{len(found):,} of {len(records):,} images of {dataset.name}, such as {found[0]}, were used to train or "
            f"to select the step, so the result would be too good; {test}give --part all",
            code="leak",
            key=dataset.name,
        )


def refuse_unnamed(scorer: "Scorer", name: str) -> None:
    """Raises CheckpointError for a dataset from outside jaxiqa that is not allowed or not installed."""
    where = f"checkpoint {scorer.workdir} was trained on the dataset"
    plugins.refuse_unnamed(name, plugins.DATASETS, _ALLOW.value, where)
    try:
        datasets.reader(name)
    except ConfigError as error:
        plugins.refuse_missing(name, where, "", error)


def _key(name: str) -> str:
    """The key of a dataset, or the name itself if the dataset is not known."""
    with contextlib.suppress(ConfigError):
        return datasets.find(name)
    return name


def _data(scorer: "Scorer") -> tuple[Dataset, str, Split, bool]:
    """The dataset that the flags name, its folder, its split, and whether the checkpoint was trained on it."""
    config = scorer.meta.config
    own = dict(config.get("dataset", {}))
    if not own and not _DATASET.value:
        raise CheckpointError(
            f"checkpoint {scorer.workdir} does not name its dataset; give --dataset and --data_dir",
            code="missing",
            key="--dataset",
        )
    own_name = _key(own.get("name", ""))
    if _DATASET.value:
        name = datasets.find(_DATASET.value)
        datasets.reader(name)
    else:
        name = own_name
        refuse_unnamed(scorer, name)
    same_key = bool(own) and name == own_name
    another_folder = same_key and datasets.fact(name, "ANYONES") and _DATASET.value is not None
    options = (own if same_key and not another_folder else {}) | parse_options(_OPTION.value)
    options["data_dir"] = _DATA_DIR.value if _DATA_DIR.value is not None else options.get("data_dir", "")
    folder = options["data_dir"]
    if folder and _DATA_DIR.value is None and "://" not in folder and not os.path.isdir(os.path.expanduser(folder)):
        raise DataError(
            f"the folder of the training, {folder}, is not on this machine; give the folder of the same images and "
            "labels as --data_dir",
            code="not_found",
            key="--data_dir",
        )
    dataset = datasets.load(**{**options, "name": name})
    how = dict(config.get("split", {"selection": "val"}))
    if (_PART.value or ("" if same_key else "all")) == "all":  # it may be too small to split
        return dataset, options["data_dir"], Split([], [], [], "", None, 0, how["selection"], ""), False
    if same_key and how.get("file") and not os.path.exists(how["file"]):
        how["file"] = str(scorer.workdir / "split.json")  # the same parts
    split = make_split(dataset, **(how if same_key else {"selection": how["selection"]}))
    is_own = same_key and (not another_folder or split.fingerprint == scorer.meta.split)
    return dataset, options["data_dir"], split, is_own


if __name__ == "__main__":
    program.run(main, _FLAGS)
