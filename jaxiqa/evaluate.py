"""Compare a checkpoint's scores with opinion scores.

  python -m jaxiqa.evaluate --checkpoint workdir/mine
  python -m jaxiqa.evaluate --checkpoint workdir/mine --dataset kadid10k --data_dir /path/to/kadid10k
  python -m jaxiqa.evaluate --checkpoint workdir/mine --dataset folder --data_dir /path/to/folder \\
      --option label_column=dmos --option higher_is_better=False --option "score_range=(0, 100)"

The first takes the dataset, its options and the split from the checkpoint's own config and scores its test part.
Another dataset is scored whole, which is what "cross-dataset" means; --part chooses otherwise. Pictures that were
trained on are refused unless --part asks for them.

Printed and written: SRCC and PLCC with 95 % bootstrap intervals (whole contents are drawn), PLCC after least-squares
fits of the logistic curves with 4 and 5 parameters (from many starts; "not converged" is said), KRCC, RMSE on the
dataset's native scale, the split's fingerprint and the rule that picked the step (val: on pictures that are not tested;
legacy: on the test part, as papers do). The output folder receives report.json, predictions_PART.csv (path, score
0..100, native on the training set's scale, se, mos, reference, distortion, level), scatter_PART.png with the fitted
curve, residuals_PART.png, contact_sheet_PART.png, and report.html with all of it on one page.

Exit codes: 0 done, 2 usage, 3 bad data, 4 unusable checkpoint, 75 disk full.
"""

import dataclasses
import json
import os

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import datasets, program
from jaxiqa.datasets.leaks import seen_references
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.splits import Split, make_split
from jaxiqa.errors import CheckpointError, ConfigError, DataError
from jaxiqa.inputs.pictures import Pictures
from jaxiqa.inputs.render import render
from jaxiqa.runs import compile_cache
from jaxiqa.scoring.evaluate import describe, evaluate, provenance
from jaxiqa.scoring.results import write_results
from jaxiqa.scoring.scorer import Scorer

PARTS = ("train", "val", "test", "all")

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of a training run, or a converted checkpoint.")
_STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; default: the best one, else the latest.")
_CROPS = flags.DEFINE_string("crops", None, "grid (every pixel is seen) or random:N; default: the checkpoint's own.")
_RESIZE = flags.DEFINE_integer(
    "resize", None, "Shorter side of every picture in pixels, 0: as it is; default: as in training.", lower_bound=0
)
_DATASET = flags.DEFINE_string("dataset", None, "Key of the dataset; default: the one that was trained on.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Its folder; default: where it was in training.")
_OPTION = flags.DEFINE_multi_string("option", [], "KEY=VALUE, an option of the dataset's reader; may be repeated.")
_PART = flags.DEFINE_enum("part", None, PARTS, "Default: test, or all of a dataset that was not trained on.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; default: evaluation/DATASET_PART in the checkpoint.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Crops in a batch; default: by their size.", lower_bound=1)


def main() -> None:
    """The program."""
    if not _CHECKPOINT.value:
        raise ConfigError("--checkpoint is missing; name the --workdir of a training run")
    compile_cache.enable()
    scorer = Scorer(_CHECKPOINT.value, _STEP.value, _CROPS.value, _BATCH_SIZE.value, _RESIZE.value)
    dataset, data_dir, split, is_own = _data(scorer)
    part = _PART.value or ("test" if is_own else "all")
    if is_own and part != "all" and split.fingerprint != scorer.meta.split:
        raise DataError(
            f"{dataset.name} is not as it was in training (split {scorer.meta.split} then, {split.fingerprint} "
            "now), so test pictures may have been trained on; restore its pictures and labels, or take --part all"
        )
    chosen = range(len(dataset)) if part == "all" else getattr(split, part)
    records = [dataset.records[i] for i in chosen]
    refuse_trained(scorer, dataset, data_dir, records)
    if lent := seen_references(scorer.meta.transferred, dataset, records):
        note = f"scores of {len(lent)} of its references were trained on by label transfer"
        dataset = dataclasses.replace(dataset, note="; ".join(filter(None, (dataset.note, note))))
    dataset = render(dataset, data_dir, chosen)
    records = [dataset.records[i] for i in chosen]
    pictures = Pictures(records, scorer.model.crop_size, scorer.card.resize)
    print(f"{scorer.card.model['name']} {scorer.card.model['variant']}, step {scorer.step} of {scorer.workdir}")
    if dataset.note:
        print(f"note: {dataset.note}")
    stream = scorer.predictor.stream(scorer.variables, pictures)
    bar = tqdm(stream, "scoring", len(records), unit=" pictures", mininterval=1, disable=None)
    results = evaluate(bar, records, dataset, scorer.card)
    folder = epath.Path(_OUTPUT.value or scorer.workdir / "evaluation" / f"{dataset.name}_{part}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        summary = provenance(dataset, part, split, scorer.card)
        summary |= {"step": scorer.step, "checkpoint": str(scorer.workdir), "data_dir": data_dir}
        if not scorer.meta.config:
            summary["selection"] = "not known"  # converted weights
        print(describe(write_results(folder, part, results, summary)))
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written ({error.strerror}); name another folder") from error
    print(f"report.html, report.json, predictions_{part}.csv, scatter and contact sheet are in {folder}")


def refuse_trained(scorer: Scorer, dataset: Dataset, data_dir: str, records: list[Record]) -> None:
    """DataError where some of the records were trained on or picked the step, unless --part was given."""
    path = scorer.workdir / "split.json"
    if _PART.value or not path.exists():
        return
    if lent := seen_references(scorer.meta.transferred, dataset, records):
        raise DataError(
            f"scores of {len(lent)} of the references, such as {lent[0]}, were trained on by label transfer, so the "
            "result would flatter; test on another dataset, or ask for it by --part all"
        )
    own = scorer.meta.config["dataset"]["data_dir"]
    if datasets.fact(dataset.name, "ANYONES") and os.path.realpath(data_dir) != os.path.realpath(own):
        return  # other pictures may have the same names
    seen = json.loads(path.read_text())
    used = {*seen["train"], *seen["val"]} if seen["dataset"] == dataset.name else set()
    if found := [r.id for r in records if r.id in used]:
        raise DataError(
            f"{len(found):,} of {len(records):,} pictures, such as {found[0]}, were trained on or picked the step, so "
            "the result would flatter; leave --dataset out to test as training did, or ask for it by --part all"
        )


def _data(scorer: Scorer) -> tuple[Dataset, str, Split, bool]:
    """The dataset that the flags name, its folder, its split, and whether the checkpoint was trained on it."""
    config = scorer.meta.config
    own = dict(config.get("dataset", {}))
    name = datasets.find(_DATASET.value) if _DATASET.value else own.get("name")
    if name is None:
        raise CheckpointError(f"checkpoint {scorer.workdir} says nothing of its dataset; give --dataset and --data_dir")
    same_key = bool(own) and name == datasets.find(own["name"])
    another_folder = same_key and datasets.fact(name, "ANYONES") and _DATASET.value is not None
    options = (own if same_key and not another_folder else {}) | parse_options(_OPTION.value)
    options["data_dir"] = _DATA_DIR.value if _DATA_DIR.value is not None else options.get("data_dir", "")
    dataset = datasets.load(**{**options, "name": name})
    how = config.get("split", {"selection": "val"})
    split = make_split(dataset, **(how if same_key else {"selection": how["selection"]}))
    is_own = same_key and (not another_folder or split.fingerprint == scorer.meta.split)
    return dataset, options["data_dir"], split, is_own


if __name__ == "__main__":
    program.run(main)
