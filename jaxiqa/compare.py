"""Compare predictors: confidence intervals and significance tests.

  jaxiqa compare a/predictions_test.csv b/predictions_test.csv --output comparison.json
  jaxiqa compare --rounds_a "a/round*/report.json" --rounds_b "b/round*/report.json"

FILE... are predictions of the same rated images, as `jaxiqa evaluate` writes them: CSV with the columns path, score,
mos and reference. The first file is A, the second B, and so on. Files with different images or labels are refused.

Results for each file: SRCC, PLCC and KRCC with 95 % bootstrap intervals; PLCC and RMSE after a logistic fit. Results
for each pair of files: the differences of SRCC and PLCC with intervals and p values; the F test of the residual
variances, with a check of its assumptions.

A content is the set of all images with the same reference (column reference). The bootstrap draws whole contents,
because images of one content are not independent. An interval shows how much a number would vary with other contents.
It does not show how much it would vary with another training run. To compare training runs, train several rounds and
give their reports (or a CSV with the columns round, srcc, plcc) by --rounds_a and --rounds_b. Wilcoxon's test compares
them.

Two results of `jaxiqa score` (a folder of Parquet files or one of them, CSV with the column status, or JSON Lines) are
compared image by image: how many and which images got worse, and in which folders. For results with --explain, the
program also shows by which kind of distortion.

  jaxiqa compare old/ new/

--output writes all numbers to FILE.json, and a figure to FILE.png (the intervals, and the scores of A against B).

Exit codes: 0 done, 2 usage, 3 files that cannot be read or compared, 75 disk full.
"""

import string

from absl import flags
from etils import epath

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.files import write_bytes, write_json

_FLAGS = flags.FlagValues()
_OUTPUT = shared_flags.output_file(_FLAGS, ".json", note="; a figure is written to FILE.png beside it")
_LOWER = flags.DEFINE_bool("lower_is_better", False, "Lower opinion scores are better (DMOS).", flag_values=_FLAGS)
_ROUNDS_A = flags.DEFINE_multi_string(
    "rounds_a", [], "report.json of a round of A, or a quoted pattern of several", flag_values=_FLAGS
)
_ROUNDS_B = flags.DEFINE_multi_string(
    "rounds_b", [], "report.json of a round of B, or a quoted pattern of several", flag_values=_FLAGS
)
_SAMPLES = flags.DEFINE_integer("samples", 1000, "Number of bootstrap resamples.", lower_bound=100, flag_values=_FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the bootstrap resamples.", lower_bound=0, flag_values=_FLAGS)


def main(paths: list[str]) -> None:
    """The program."""
    if not paths and not _ROUNDS_A.value:
        raise ConfigError(
            "there are no predictions to compare; name files: jaxiqa compare A.csv B.csv",
            code="missing",
            key="predictions",
        )
    if bool(_ROUNDS_A.value) != bool(_ROUNDS_B.value):
        raise ConfigError(
            "--rounds_a and --rounds_b must be given together, with reports of the same rounds of A and of B",
            code="missing",
            key="--rounds_b" if _ROUNDS_A.value else "--rounds_a",
        )
    if len(paths) > len(string.ascii_uppercase):
        raise ConfigError(
            f"{len(paths)} files are too many; name at most {len(string.ascii_uppercase)}",
            code="value",
            key="predictions",
        )
    out = epath.Path(_OUTPUT.value) if _OUTPUT.value else None

    from jaxiqa.scoring.jobs.results import is_result

    if len(paths) == 2 and all(map(is_result, paths)):
        _compare_results(*paths, out)
        return
    from jaxiqa.evaluation import comparison, result_files
    from jaxiqa.figures import forest

    summary = {}
    if paths:
        names = string.ascii_uppercase[: len(paths)]
        scores_FN, labels, contents = result_files.join([result_files.read_predictions(path) for path in paths])
        try:
            found = comparison.compare(
                scores_FN, -labels if _LOWER.value else labels, contents, _SAMPLES.value, _SEED.value
            )
        except ValueError as error:
            raise DataError(f"{', '.join(paths)}: {error}", code="value", key=paths[0]) from error
        print(*(f"{name} = {path}" for name, path in zip(names, paths, strict=True)), sep="\n")
        print(comparison.describe(found, names))
        summary |= {"names": dict(zip(names, paths, strict=True)), "lower_is_better": _LOWER.value, **found}
    if _ROUNDS_A.value:
        rounds = [result_files.read_rounds(patterns) for patterns in (_ROUNDS_A.value, _ROUNDS_B.value)]
        try:
            summary["rounds"] = comparison.compare_rounds(*rounds)
        except ValueError as error:
            raise DataError(f"--rounds_a, --rounds_b: {error}", code="value", key="--rounds_a") from error
        print(comparison.describe_rounds(summary["rounds"]))
    if out:
        with program.writes_output(out):
            write_json(out, summary)
            if paths:
                forest.draw_comparison(out.with_suffix(".png"), found, names, paths, scores_FN, labels)
        print(f"written: {out}" + (f" and {out.with_suffix('.png')}" if paths else ""))


def _compare_results(old: str, new: str, out: epath.Path | None) -> None:
    """Compares two results of jaxiqa score."""
    from jaxiqa.figures import report
    from jaxiqa.scoring.jobs import drift
    from jaxiqa.scoring.jobs.results import read_result

    found = drift.drift(old, new, read_result)
    counts, edges = found.pop("histogram")
    print(f"old = {old}", f"new = {new}", *drift.describe(found), sep="\n")
    if out:
        with program.writes_output(out):
            write_json(out, {"old": old, "new": new, **found})
            write_bytes(out.with_suffix(".png"), report.histogram(counts, edges, "new score - old score", "images"))
        print(f"written: {out} and {out.with_suffix('.png')}")


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
