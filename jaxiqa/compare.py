"""Compare predictors: how sure are their correlations, and is one really better than the other?

  python -m jaxiqa.compare a/predictions_test.csv b/predictions_test.csv --output comparison.json
  python -m jaxiqa.compare --rounds_a "a/round*/report.json" --rounds_b "b/round*/report.json"

FILE... are predictions of the same rated pictures, as jaxiqa.evaluate writes them: CSV with the columns path, score,
mos and reference. Files with other pictures or other labels are refused. A is the first file, B the second, and so on.

Printed: SRCC, PLCC and KRCC of every file with 95 % bootstrap intervals; PLCC and RMSE after a logistic fit; for every
two files the difference of SRCC and of PLCC with its interval and p, and the F test of the residual variances with a
check of what it assumes. Contents (the column reference) are drawn whole, because pictures of one content are not
independent. An interval says how the number would vary with other contents, not with another training run; for that
train several rounds and give their reports (or a CSV with the columns round, srcc, plcc) by --rounds_a and --rounds_b:
Wilcoxon's test over the rounds.

--output FILE.json writes all numbers, and the figure FILE.png: the intervals, and the scores of A against those of B.

Exit codes: 0 done, 2 usage, 3 files that cannot be read or compared, 75 disk full.
"""

import string

from absl import flags
from etils import epath

from jaxiqa import program
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.evaluation import comparison, forest, report, results

_OUTPUT = flags.DEFINE_string("output", None, "FILE.json to write; the figure becomes FILE.png.")
_LOWER = flags.DEFINE_bool("lower_is_better", False, "The opinion scores are differences (DMOS).")
_ROUNDS_A = flags.DEFINE_multi_string("rounds_a", [], "Report of a round of A, or a quoted pattern; may be repeated.")
_ROUNDS_B = flags.DEFINE_multi_string("rounds_b", [], "The same of B.")
_SAMPLES = flags.DEFINE_integer("samples", 1000, "Bootstrap resamples.", lower_bound=100)
_SEED = flags.DEFINE_integer("seed", 0, "Of the resamples.", lower_bound=0)


def main(paths: list[str]) -> None:
    """The program."""
    if not paths and not _ROUNDS_A.value:
        raise ConfigError("nothing to compare; name predictions: python -m jaxiqa.compare A.csv B.csv")
    if bool(_ROUNDS_A.value) != bool(_ROUNDS_B.value):
        raise ConfigError("--rounds_a and --rounds_b go together: the reports of the same rounds of A and of B")
    if len(paths) > len(string.ascii_uppercase):
        raise ConfigError(f"{len(paths)} files are too many; compare up to {len(string.ascii_uppercase)}")
    out = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    if out and out.suffix != ".json":
        raise ConfigError(f"--output {out} must end in .json; the figure is written beside it")
    summary = {}
    if paths:
        names = string.ascii_uppercase[: len(paths)]
        scores_FN, labels, contents = results.join([results.read_predictions(path) for path in paths])
        try:
            found = comparison.compare(
                scores_FN, -labels if _LOWER.value else labels, contents, _SAMPLES.value, _SEED.value
            )
        except ValueError as error:
            raise DataError(f"{', '.join(paths)}: {error}") from error
        print(*(f"{name} = {path}" for name, path in zip(names, paths, strict=True)), sep="\n")
        print(comparison.describe(found, names))
        summary |= {"names": dict(zip(names, paths, strict=True)), "lower_is_better": _LOWER.value, **found}
    if _ROUNDS_A.value:
        rounds = [results.read_rounds(patterns) for patterns in (_ROUNDS_A.value, _ROUNDS_B.value)]
        try:
            summary["rounds"] = comparison.compare_rounds(*rounds)
        except ValueError as error:
            raise DataError(f"--rounds_a, --rounds_b: {error}") from error
        print(comparison.describe_rounds(summary["rounds"]))
    if out:
        try:
            report.write_json(out, summary)
            if paths:
                forest.draw_comparison(out.with_suffix(".png"), found, names, paths, scores_FN, labels)
        except OSError as error:
            raise ConfigError(f"--output {out} cannot be written ({error.strerror}); name another file") from error
        print(f"written: {out}" + (f" and {out.with_suffix('.png')}" if paths else ""))


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
