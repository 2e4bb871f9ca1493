"""Score images with a trained model, 0 to 100.

  jaxiqa score photo.jpg folder/
  jaxiqa score --checkpoint workdir/mine photo.jpg folder/ --output scores.csv

Without --checkpoint, the model is the one that comes with jaxiqa, under the name "ready" (a folder of this name in the
current folder is ./ready). It was trained on rendered distortions. Nobody rated its training images.

PATH... are
  FILE     an image
  FOLDER   all files in it with the extension of an image format; subfolders and linked folders are searched too
  "*.png"  a pattern in quotes, which the shell does not expand
  @FILE    a text file with one path in each line; relative paths start here or, if nothing is there, beside FILE
  -        paths from standard input, one in each line or separated by NUL (find -print0)
Standard output is a table on a terminal, and CSV in a pipe or file. --output also writes FILE.csv or FILE.json.

Columns:
  path        the image, or a folder that cannot be opened
  score       0 to 100 over the range of the training set's labels; higher is better. It is not clipped: an image
              worse or better than all of the training set may lie outside, below 0 or above 100.
  native      the score on the scale and in the direction of the training set's labels; empty if nobody rated its images
  se          standard error of the score over the crops; empty for a single crop
  crops       the crop policy: grid, five, auto:N, random:N or whole
  status      "ok" or "refused"
  reason      why the image was refused
  percentile  percent of the model's reference images with a lower score; empty if the checkpoint has no reference
  word        the fifth of 0 to 100 in which the score is: bad, poor, fair, good or excellent
A file that does not exist has a row too, unless none exists.
--explain adds a column for each family of distortions (pristine, blur, colour, ...). The column holds the
probability of the family, averaged over the crops.

Exit codes: 0 done, 2 usage, 3 no image could be read (with --strict: an image or a folder could not be read),
4 unusable checkpoint, 75 disk full.
"""

import contextlib
import csv
import io
import math
import os
import sys
import time

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError, DataError, full_disk, printable
from jaxiqa.files import json_text
from jaxiqa.inputs.image_paths import find_images

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS)
_STEP = shared_flags.step(_FLAGS)
_CROPS = shared_flags.crops(_FLAGS)
_TARGET = flags.DEFINE_multi_string(
    "target", [], "Image file or folder to score, in addition to PATH...", short_name="t", flag_values=_FLAGS
)
_OUTPUT = shared_flags.output_file(_FLAGS, ".csv", ".json")
_STRICT = flags.DEFINE_bool(
    "strict", False, "Exit with code 3 if any image or folder could not be read.", flag_values=_FLAGS
)
_EXPLAIN = flags.DEFINE_bool(
    "explain",
    False,
    "Add the probabilities of distortion families (for MFEN with a pretrained DAN).",
    flag_values=_FLAGS,
)
_BATCH_SIZE = shared_flags.batch_size(_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)

COLUMNS = ("path", "score", "native", "se", "crops", "status", "reason", "percentile", "word")


def csv_writer(file, columns) -> csv.DictWriter:
    """Returns a CSV writer, after it has written the header."""
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    return writer


def main(paths: list[str]) -> None:
    """The program."""
    if not (paths := [*paths, *_TARGET.value]):
        raise ConfigError(
            "there are no images to score; name files or folders: jaxiqa score PATH...",
            code="missing",
            key="images",
        )
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    paths = find_images(paths)

    from jaxiqa.models import ready
    from jaxiqa.runs import compile_cache
    from jaxiqa.scoring.scorer import Scorer

    with contextlib.redirect_stdout(sys.stderr):  # a warning is no row
        compile_cache.enable()
    scorer = Scorer(
        ready.by_default(_CHECKPOINT.value, "--checkpoint"),
        _STEP.value,
        _CROPS.value,
        _BATCH_SIZE.value,
        explain=_EXPLAIN.value,
        allow=_ALLOW.value,
    )
    card, columns = scorer.card, (*COLUMNS, *scorer.families)
    scale = "nobody rated its images, so there is no native scale"
    if card.scale:
        direction = "higher" if card.scale.higher_is_better else "lower"
        scale = f"native scale {card.scale.lo:g}..{card.scale.hi:g}, {direction} is better"
    print(
        f"{card.model['name']} {card.model['variant']}, step {scorer.step} of {scorer.workdir}, crops {card.crops}\n"
        f"trained on {card.dataset or 'an unknown dataset'}; {scale}",
        *([f"percentiles are of {card.reference['of']}"] if card.reference else []),
        *([f"note: {card.note}"] if card.note else []),
        sep="\n",
        file=sys.stderr,
    )
    rows, began = [], time.monotonic()
    head = {"checkpoint": str(scorer.workdir), "step": scorer.step, **card.to_dict()}
    with _output(output, head, columns) as write:
        show = _table(paths, scorer.families) if sys.stdout.isatty() else csv_writer(sys.stdout, columns).writerow
        scores = tqdm(scorer.scores(paths), "scoring", len(paths), unit=" images", disable=None, leave=False)
        for path, found in zip(paths, scores, strict=True):
            row = dict.fromkeys(columns, "") | {"path": path, "crops": card.crops, "status": "ok"}
            if found.reason:
                row |= {"status": "refused", "reason": found.reason}
            else:
                values = {name: getattr(found, name) for name in ("score", "native", "se", "percentile")}
                row |= {name: "" if math.isnan(value) else value for name, value in values.items()}
                row["word"] = found.word
                row |= zip(scorer.families, found.explanation, strict=True)
            rows.append(row)
            show(row)
            write(row)
    took = time.monotonic() - began
    refused = [row["reason"] for row in rows if row["reason"]]
    print(
        f"scored {len(rows) - len(refused)}, refused {len(refused)} in {took:.1f} s "
        f"({len(rows) / took:.1f} images/s, {scorer.predictor.compiled_shapes} compiled shape(s))"
        + (f"; {output}" if output else ""),
        file=sys.stderr,
    )
    if refused and (_STRICT.value or len(refused) == len(rows)):
        raise DataError(
            f"{len(refused)} of {len(rows)} images could not be read; reason for the first: {refused[0]}",
            code="faults",
            key=refused[0],
        )


@contextlib.contextmanager
def _output(path: epath.Path | None, head: dict, columns):
    """Yields write(row), for a CSV file or a JSON file that begins with `head`.

    The file appears when all rows are written. If the program stops earlier, the rows so far are in FILE.part.
    """
    if path is None:
        yield lambda row: None
        return
    part, rows = path.with_name(path.name + ".part"), []
    with program.writes_output(path):
        file = io.TextIOWrapper(part.open("wb"), "utf-8", "surrogateescape", newline="", line_buffering=True)
    with full_disk(part), file:
        try:
            yield csv_writer(file, columns).writerow if path.suffix == ".csv" else rows.append
        except BaseException as error:
            error.add_note(f"the rows so far are in {part}")
            raise
        finally:
            if path.suffix == ".json":
                pictures = [{name: None if value == "" else value for name, value in row.items()} for row in rows]
                file.write(json_text({**head, "pictures": pictures}, 1))
    part.replace(path)


def _table(paths: list[str], families):
    """Returns show(row) for a terminal: end of the path, score, standard error, native score, meaning, distortions."""
    width = min(max(map(len, map(printable, paths))), max(20, os.get_terminal_size().columns - 60))
    print(f"{'image':{width}}   score      se    native  percentile  word")
    numbers = (("score", 7, 2), ("se", 7, 2), ("native", 9, 3), ("percentile", 11, 0))

    def show(row):
        path = printable(row["path"])
        path = path if len(path) <= width else "…" + path[1 - width :]
        if row["status"] == "ok":
            shown = (" " * n if row[name] == "" else f"{row[name]:{n}.{digits}f}" for name, n, digits in numbers)
            seen = sorted((name for name in families if row[name] >= 0.1), key=lambda name: -row[name])
            why = "".join(f"  {name} {100 * row[name]:.0f} %" for name in seen)
            tqdm.write(f"{path:{width}} {' '.join(shown)}  {row['word']}{why}")
        else:
            tqdm.write(f"{path:{width}} refused: {printable(row['reason'])}")

    return show


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
