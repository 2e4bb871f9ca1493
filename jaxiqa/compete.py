"""Let quality models attack each other: the pairs of pictures that show best which of them is wrong (gMAD).

  python -m jaxiqa.compete --scorers old=scores_old.csv --scorers new=workdir/new --pool pictures/ --output competition
  python -m jaxiqa.compete --scorers a=workdir/a --scorers b=workdir/b --oracle mos --output competition \\
      --dataset kadid10k --data_dir /path/to/kadid10k

A scorer is NAME=PATH: a CSV with the columns path and score (as jaxiqa.score and jaxiqa.evaluate write them), or a
checkpoint (a training run's workdir, a converted one), which scores the pool now; its scores are kept in
scores_NAME.csv, to be given as its PATH next time. The pool is the folder --pool, else the pictures of the first CSV,
else those of --dataset. Every model defends: its scores are cut into --levels levels, and in each of them every other
model picks the pictures that it finds worst and best. If people see no difference between the two the defender was
right, else the attacker.

--align puts the scores on a common 0..100 first. percentile: the rank in the pool. logistic: the curve that fits each
model's scores to a rated set best; give its predictions with opinion scores for each scorer, --align_on
NAME=predictions_all.csv, and --align_range=WORST,BEST of the rating scale (1,5; or 100,0 where lower is better). none:
as they are; they must share a scale of 0..100.

--oracle judges in the place of people. mos: the opinion scores of --dataset. psnr, ssim: likeness to the reference
picture that the dataset's record names (psnr: 10 dB is 0, 50 dB is 100; ssim: 100 SSIM). A preference over 9 for the
attacker's best picture is a success, one over 9 for its worst backfires, all between is resisted.

The folder --output receives report.html, pairs.json, pairs.csv, a PNG of each pair, competition.json (how it was done),
and with an oracle aggressiveness.csv (attackers on defenders, -100..100), resistance.csv (0..100), ranking.csv (scale
values of Thurstone's case V) and matrices.png.

Exit codes: 0 done, 2 usage, 3 bad data, 4 unusable checkpoint, 75 disk full.
"""

import contextlib
import re

import numpy as np
from absl import flags
from etils import epath

from jaxiqa import datasets, program
from jaxiqa.datasets.options import parse_options
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.evaluation import gmad, report
from jaxiqa.evaluation.results import find_rows, join, read_predictions
from jaxiqa.inputs.files import find_pictures
from jaxiqa.inputs.render import render
from jaxiqa.runs import compile_cache
from jaxiqa.scoring import competition, oracle
from jaxiqa.scoring.pool import score_pool
from jaxiqa.version import __version__

_SCORERS = flags.DEFINE_multi_string(
    "scorers", [], "NAME=PATH, a CSV of scores or a checkpoint; once for each, or further NAME=PATH as plain words."
)
_POOL = flags.DEFINE_string("pool", None, "Folder of pictures to compete on.")
_DATASET = flags.DEFINE_string("dataset", None, "Key of the dataset that the pictures are from.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Its folder.")
_OPTION = flags.DEFINE_multi_string("option", [], "KEY=VALUE, an option of the dataset's reader; may be repeated.")
_ALIGN = flags.DEFINE_enum("align", "percentile", gmad.ALIGNMENTS, "How scores come to a common scale.")
_ALIGN_ON = flags.DEFINE_multi_string("align_on", [], "NAME=CSV, a scorer's predictions of a rated set; for logistic.")
_ALIGN_RANGE = flags.DEFINE_list("align_range", None, "WORST,BEST of the rated set's scale, e.g. 1,5.")
_LEVELS = flags.DEFINE_integer("levels", gmad.LEVELS, "Levels of each defender.", lower_bound=1)
_TOLERANCE = flags.DEFINE_float("tolerance", gmad.TOLERANCE, "Half the width of a level.", lower_bound=0)
_ORACLE = flags.DEFINE_enum("oracle", "none", oracle.ORACLES, "Who judges the pairs; none: people, later.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.")


def main(words: list[str]) -> None:
    """The program."""
    scorers = _named("--scorers", [*_SCORERS.value, *words])
    if len(scorers) < 2:
        raise ConfigError("a competition needs two scorers or more: --scorers NAME=PATH --scorers NAME=PATH")
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the pairs")
    if _ORACLE.value != "none" and not _DATASET.value:
        raise ConfigError(f"--oracle {_ORACLE.value} needs the --dataset (with --data_dir) that the pictures are from")
    rated = _rated(list(scorers))
    scorers = {name: read_predictions(path) if path.endswith(".csv") else path for name, path in scorers.items()}
    paths, ids, records, dataset = _pool(scorers)
    folder = epath.Path(_OUTPUT.value)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    scores, sources = _score(scorers, paths, folder)
    usable = np.flatnonzero(np.isfinite(list(scores.values())).all(0))
    lost = len(paths) - len(usable)
    print(f"{len(usable):,} pictures compete" + f"; {lost:,} are left out, which a scorer could not score" * bool(lost))
    if not usable.size:
        raise DataError("there is no picture that every scorer could score")
    aligned = {name: _align(name, score[usable], rated.get(name)) for name, score in scores.items()}
    pairs = gmad.make_pairs(aligned, [ids[i] for i in usable], _LEVELS.value, _TOLERANCE.value)
    if _ORACLE.value != "none":
        pairs = _judge(pairs, dict(zip(ids, records, strict=True)), dataset)
    print(competition.describe_pairs(pairs))
    summary = {
        "scorers": sources,
        "pictures": len(usable),
        "left_out": lost,
        "dataset": dataset and {"name": dataset.name, "fingerprint": dataset.fingerprint, "note": dataset.note},
        "align": _ALIGN.value,
        "levels": _LEVELS.value,
        "tolerance": _TOLERANCE.value,
        "oracle": _ORACLE.value,
        "jaxiqa": __version__,
    }
    with _writing(folder):
        if _ORACLE.value != "none":
            summary |= (results := competition.write_results(folder, pairs, list(scores)))
            print(competition.describe_results(results, list(scores)))
        report.write_json(folder / "competition.json", summary)
        competition.write_pairs(folder, pairs, dict(zip(ids, paths, strict=True)), _LEVELS.value, _TOLERANCE.value)
        competition.write_page(folder, pairs, summary)
    print(f"report.html, pairs and pictures of them are in {folder}")


@contextlib.contextmanager
def _writing(folder: epath.Path):
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written ({error.strerror}); name another folder") from error


def _named(flag: str, texts: list[str]) -> dict[str, str]:
    """{NAME: VALUE} of texts NAME=VALUE; names become parts of file names."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and value and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)):
            raise ConfigError(f"{flag} {text}: write it as NAME=PATH, the name of letters, digits and . _ -")
        if name in found:
            raise ConfigError(f"{flag}: the name {name!r} is there twice; give every scorer its own")
        found[name] = value
    return found


def _rated(names: list[str]) -> dict[str, tuple]:
    """For logistic alignment {name: (scores, opinion scores 0..100)} of a rated set."""
    if _ALIGN.value != "logistic":
        return {}
    files = _named("--align_on", _ALIGN_ON.value)
    if set(files) != set(names):
        raise ConfigError(
            f"--align logistic needs --align_on NAME=CSV for each of {', '.join(names)}: its predictions of a rated set"
        )
    try:
        worst, best = map(float, _ALIGN_RANGE.value or ())
        if worst == best:
            raise ValueError
    except ValueError:
        raise ConfigError("--align logistic needs --align_range=WORST,BEST of the rating scale, e.g. 1,5") from None
    scores_FN, mos, _ = join([read_predictions(files[name]) for name in names])
    return {name: (score, 100 * (mos - worst) / (best - worst)) for name, score in zip(names, scores_FN, strict=True)}


def _pool(scorers: dict) -> tuple[list[str], list[str], list | None, datasets.Dataset | None]:
    """Paths, ids and, of a dataset, records of the pool's pictures, and the dataset."""
    files = [scorer for scorer in scorers.values() if not isinstance(scorer, str)]
    dataset = None
    if _DATASET.value:
        dataset = datasets.load(_DATASET.value, _DATA_DIR.value, **parse_options(_OPTION.value))
        dataset = render(dataset, _DATA_DIR.value)
    if _POOL.value:
        paths = find_pictures([_POOL.value])
    elif files:
        paths = files[0].paths
    elif dataset:
        paths = [record.path for record in dataset.records]
    else:
        raise ConfigError("there is no pool; name a folder of pictures by --pool, or a --dataset")
    if not dataset:
        return paths, paths, None, None
    rows = find_rows([record.path for record in dataset.records], paths, f"--dataset {dataset.name}", "the pool")
    records = [dataset.records[row] for row in rows]
    return [record.path for record in records], [record.id for record in records], records, dataset


def _score(scorers: dict, paths: list[str], folder: epath.Path) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Scores of the pool by each scorer, and where they are from; those of checkpoints are written at once."""
    compile_cache.enable()
    scores, sources = {}, {}
    for name, scorer in scorers.items():
        scores[name], sources[name] = score_pool(name, scorer, paths)
        if isinstance(scorer, str):
            rows = ([path, "" if np.isnan(s) else s] for path, s in zip(paths, scores[name].tolist(), strict=True))
            with _writing(folder):
                competition.write_table(folder / f"scores_{name}.csv", ["path", "score"], rows)
    return scores, sources


def _align(name: str, scores: np.ndarray, rated: tuple | None) -> np.ndarray:
    try:
        return gmad.aligned(scores, _ALIGN.value, rated)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def _judge(pairs: list[dict], records: dict, dataset: datasets.Dataset) -> list[dict]:
    """The pairs with what the oracle says."""
    needed = sorted({pair[key] for pair in pairs if pair["n_in_level"] for key in ("worst_id", "best_id")})
    chosen = [records[id_] for id_ in needed]
    if _ORACLE.value == "mos":
        values = oracle.opinion(chosen, dataset)
    else:
        values = oracle.fidelities(chosen, _DATA_DIR.value, _ORACLE.value)
    quality = dict(zip(needed, values, strict=True))
    return gmad.judge(pairs, [gmad.preference(pair, quality) for pair in pairs])


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
