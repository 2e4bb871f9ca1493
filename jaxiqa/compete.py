"""Compare models by image pairs on which they disagree most (gMAD).

  jaxiqa compete --scorers old=scores_old.csv --scorers new=workdir/new --pool images/ --output competition
  jaxiqa compete --scorers a=workdir/a --scorers b=workdir/b --oracle mos --output competition \\
      --dataset kadid10k --data_dir /path/to/kadid10k

The program selects the pairs of images that best show which model is wrong (group maximum differentiation). A scorer
is NAME=PATH. PATH is a CSV file with the columns path and score (as `jaxiqa score` and `jaxiqa evaluate` write them),
or a checkpoint, which then scores the pool. The program writes these scores to scores_NAME.csv, which can be PATH next
time. The pool is the folder --pool. Without --pool it is the images of the first CSV file, or else of --dataset.

Each model defends in turn. Its scores are divided into --levels levels. In each level, each other model (the
attacker) selects the images that it finds worst and best. If people see no difference between the two images, the
defender was right. Otherwise the attacker was right.

--align maps the scores of all models to a common scale of 0 to 100:
  percentile  the rank in the pool
  logistic    the logistic curve that best fits each model's scores to a rated set; needs each scorer's predictions
              with opinion scores, --align_on NAME=predictions_all.csv, and --align_range=WORST,BEST of the rating scale
              (1,5; or 100,0 if lower is better)
  none        the scores as they are, which must share a scale of 0 to 100

--oracle judges the pairs in place of people:
  mos         the opinion scores of --dataset
  psnr, ssim  similarity to the reference image that the dataset's record names (psnr: 10 dB is 0, 50 dB is 100;
              ssim: 100 SSIM)
The oracle prefers one image of a pair by a number of points. If it prefers the attacker's best image by more than 9
points, the attack succeeds. If it prefers the attacker's worst image by more than 9 points, the attack backfires.
Otherwise the defender resists.

The folder --output receives report.html, pairs.json, pairs.csv, a PNG of each pair and competition.json (settings).
With an oracle it also receives aggressiveness.csv (attackers on defenders, -100 to 100), resistance.csv (0 to 100),
ranking.csv (scale values of Thurstone's case V) and matrices.png.

Exit codes: 0 done, 2 usage, 3 bad data, 4 unusable checkpoint, 75 disk full.
"""

import re

import numpy as np
from absl import flags
from etils import epath

from jaxiqa import datasets, program, shared_flags
from jaxiqa.competition import gmad, judges
from jaxiqa.datasets.options import parse_options
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.evaluation.result_files import find_rows, join, read_predictions
from jaxiqa.files import write_json
from jaxiqa.inputs.image_paths import images_in
from jaxiqa.version import __version__

_FLAGS = flags.FlagValues()
_SCORERS = flags.DEFINE_multi_string(
    "scorers",
    [],
    "Scorer as NAME=PATH, where PATH is a CSV with scores or a checkpoint; NAME=PATH alone means the same",
    flag_values=_FLAGS,
)
_POOL = flags.DEFINE_string(
    "pool",
    None,
    "Folder of the images of the pool; default: the images of the first CSV, else of --dataset.",
    flag_values=_FLAGS,
)
_DATASET = shared_flags.dataset(_FLAGS, "that the images are from, for --oracle or as the pool")
_DATA_DIR = shared_flags.data_dir(_FLAGS)
_OPTION = shared_flags.option(_FLAGS)
_ALIGN = flags.DEFINE_enum(
    "align", "percentile", gmad.ALIGNMENTS, "How scores are mapped to a common scale, 0 to 100.", flag_values=_FLAGS
)
_ALIGN_ON = flags.DEFINE_multi_string(
    "align_on",
    [],
    "NAME=CSV with predictions of a rated set by the scorer NAME, for --align logistic",
    flag_values=_FLAGS,
)
_ALIGN_RANGE = flags.DEFINE_list(
    "align_range", None, "WORST,BEST of the rating scale in --align_on, e.g. 1,5.", flag_values=_FLAGS
)
_LEVELS = flags.DEFINE_integer(
    "levels",
    gmad.LEVELS,
    "Number of levels into which the scores of a defender are divided.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    gmad.TOLERANCE,
    "Half the width of a level, in points of the scale 0 to 100.",
    lower_bound=0,
    flag_values=_FLAGS,
)
_ORACLE = flags.DEFINE_enum(
    "oracle", "none", judges.ORACLES, "Measure that judges the pairs in place of people.", flag_values=_FLAGS
)
_ALLOW = shared_flags.allow(_FLAGS)
_OUTPUT = shared_flags.output_folder(_FLAGS)


def main(words: list[str]) -> None:
    """The program."""
    scorers = _named("--scorers", [*_SCORERS.value, *words])
    if len(scorers) < 2:
        raise ConfigError(
            "a competition needs two or more scorers; give --scorers NAME=PATH --scorers NAME=PATH",
            code="missing",
            key="--scorers",
        )
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the pairs", code="missing", key="--output")
    if _ORACLE.value != "none" and not _DATASET.value:
        raise ConfigError(
            f"--oracle {_ORACLE.value} needs the dataset of the images; give --dataset and --data_dir",
            code="missing",
            key="--dataset",
        )

    from jaxiqa.competition import results

    rated = _rated(list(scorers))
    scorers = {name: read_predictions(path) if path.endswith(".csv") else path for name, path in scorers.items()}
    paths, ids, records, dataset = _pool(scorers)
    folder = epath.Path(_OUTPUT.value)
    with program.writes_output(folder):
        folder.mkdir(parents=True, exist_ok=True)
    scores, sources = _score(scorers, paths, folder)
    usable = np.flatnonzero(np.isfinite(list(scores.values())).all(0))
    lost = len(paths) - len(usable)
    print(f"{len(usable):,} images compete" + f"; {lost:,} that a scorer could not score are left out" * bool(lost))
    if not usable.size:
        raise DataError(
            "no image of the pool has a score from every scorer; give scorers and a pool of the same images",
            code="empty",
            key="--pool",
        )
    aligned = {name: _align(name, score[usable], rated.get(name)) for name, score in scores.items()}
    pairs = gmad.make_pairs(aligned, [ids[i] for i in usable], _LEVELS.value, _TOLERANCE.value)
    if _ORACLE.value != "none":
        pairs = _judge(pairs, dict(zip(ids, records, strict=True)), dataset)
    print(results.describe_pairs(pairs))
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
    with program.writes_output(folder):
        if _ORACLE.value != "none":
            summary |= (outcome := results.write_results(folder, pairs, list(scores)))
            print(results.describe_results(outcome, list(scores)))
        write_json(folder / "competition.json", summary)
        results.write_pairs(folder, pairs, dict(zip(ids, paths, strict=True)), _LEVELS.value, _TOLERANCE.value)
        results.write_page(folder, pairs, summary)
    print(f"report.html, the pairs and their images are in {folder}")


def _named(flag: str, texts: list[str]) -> dict[str, str]:
    """Parses texts NAME=VALUE to {NAME: VALUE}. Names become parts of file names."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and value and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)):
            raise ConfigError(
                f"{flag} {text}: write it as NAME=PATH, with a NAME of letters, digits and . _ -",
                code="value",
                key=flag,
            )
        if name in found:
            raise ConfigError(
                f'{flag}: the name "{name}" is given twice; give every scorer its own name', code="conflict", key=flag
            )
        found[name] = value
    return found


def _rated(names: list[str]) -> dict[str, tuple]:
    """{name: (scores, opinion scores 0..100)} of the rated set for logistic alignment, else {}."""
    if _ALIGN.value != "logistic":
        return {}
    files = _named("--align_on", _ALIGN_ON.value)
    if set(files) != set(names):
        raise ConfigError(
            f"--align logistic needs predictions of a rated set; give --align_on NAME=CSV for {', '.join(names)}",
            code="missing",
            key="--align_on",
        )
    try:
        worst, best = map(float, _ALIGN_RANGE.value or ())
        if worst == best:
            raise ValueError
    except ValueError:
        raise ConfigError(
            "--align logistic needs the rating scale: give --align_range=WORST,BEST, e.g. 1,5",
            code="missing",
            key="--align_range",
        ) from None
    scores_FN, mos, _ = join([read_predictions(files[name]) for name in names])
    return {name: (score, 100 * (mos - worst) / (best - worst)) for name, score in zip(names, scores_FN, strict=True)}


def _pool(scorers: dict) -> tuple[list[str], list[str], list | None, datasets.Dataset | None]:
    """Paths, ids and records of the images of the pool, and the dataset. Without a dataset, ids are paths."""
    files = [scorer for scorer in scorers.values() if not isinstance(scorer, str)]
    dataset = None
    if _DATASET.value:
        dataset = datasets.load(_DATASET.value, _DATA_DIR.value, **parse_options(_OPTION.value))
        from jaxiqa.inputs.render import render

        dataset = render(dataset, _DATA_DIR.value)
    if _POOL.value:
        paths = images_in(_POOL.value)
    elif files:
        paths = files[0].paths
    elif dataset:
        paths = [record.path for record in dataset.records]
    else:
        raise ConfigError("--pool is missing; name a folder of images, or a --dataset", code="missing", key="--pool")
    if not dataset:
        return paths, paths, None, None
    rows = find_rows([record.path for record in dataset.records], paths, f"--dataset {dataset.name}", "the pool")
    records = [dataset.records[row] for row in rows]
    return [record.path for record in records], [record.id for record in records], records, dataset


def _score(scorers: dict, paths: list[str], folder: epath.Path) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Returns each scorer's scores of the pool, and their sources. Scores of a checkpoint are written at once."""
    from jaxiqa.competition import results
    from jaxiqa.competition.pool_scores import score_pool
    from jaxiqa.runs import compile_cache

    compile_cache.enable()
    scores, sources = {}, {}
    for name, scorer in scorers.items():
        scores[name], sources[name] = score_pool(name, scorer, paths, _ALLOW.value)
        if isinstance(scorer, str):
            rows = ([path, "" if np.isnan(s) else s] for path, s in zip(paths, scores[name].tolist(), strict=True))
            with program.writes_output(folder):
                results.write_table(folder / f"scores_{name}.csv", ["path", "score"], rows)
    return scores, sources


def _align(name: str, scores: np.ndarray, rated: tuple | None) -> np.ndarray:
    try:
        return gmad.aligned(scores, _ALIGN.value, rated)
    except ValueError as error:
        raise DataError(f"{name}: {error}", code="value", key=name) from error


def _judge(pairs: list[dict], records: dict, dataset: datasets.Dataset) -> list[dict]:
    """Returns the pairs with the preferences of the oracle."""
    needed = sorted({pair[key] for pair in pairs if pair["n_in_level"] for key in ("worst_id", "best_id")})
    chosen = [records[id_] for id_ in needed]
    if _ORACLE.value == "mos":
        values = judges.opinion(chosen, dataset)
    else:
        values = judges.fidelities(chosen, _DATA_DIR.value, _ORACLE.value)
    quality = dict(zip(needed, values, strict=True))
    return gmad.judge(pairs, [gmad.preference(pair, quality) for pair in pairs])


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
