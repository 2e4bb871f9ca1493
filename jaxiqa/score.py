"""Score pictures with a trained model: how good does each of them look, 0 to 100?

  python -m jaxiqa.score --checkpoint workdir/mine photo.jpg pictures/ --output scores.csv

PATH... are files and folders (with everything below them; in folders, only names that end like pictures are taken).
A terminal shows a table; into a pipe or file, standard output is CSV. --output writes FILE.csv or FILE.json as well.

Columns: path; score, 0..100 over the range of the training set's labels, higher is better; native, the same on the
training set's own scale and in its direction; se, the standard error of score over the crops that were looked at
(empty for a single crop); crops, the test policy; status, "ok" or "refused"; reason, why it could not be read. With
--explain also the probabilities (means over the crops) of families of distortions: pristine, blur, colour, ...

Exit codes: 0 done, 2 usage, 3 not one picture (with --strict: any picture) could be read, 4 unusable checkpoint,
75 disk full.
"""

import contextlib
import csv
import io
import json
import math
import os
import sys
import time

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import program
from jaxiqa.errors import ConfigError, DataError, full_disk, printable
from jaxiqa.inputs.files import find_pictures
from jaxiqa.runs import compile_cache
from jaxiqa.scoring.scorer import Scorer

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of a training run, or a converted checkpoint.")
_STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; default: the best one, else the latest.")
_CROPS = flags.DEFINE_string("crops", None, "grid (every pixel is seen) or random:N; default: the checkpoint's own.")
_TARGET = flags.DEFINE_multi_string("target", [], "Another way to give a PATH; may be repeated.", short_name="t")
_OUTPUT = flags.DEFINE_string("output", None, "File to write: FILE.csv or FILE.json.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit with 3 when any picture was refused.")
_EXPLAIN = flags.DEFINE_bool("explain", False, "Say which kinds of distortion are seen (MFEN with a pretrained DAN).")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Crops in a batch; default: by their size.", lower_bound=1)

COLUMNS = ("path", "score", "native", "se", "crops", "status", "reason")


def csv_writer(file, columns) -> csv.DictWriter:
    """A writer that has written the header."""
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    return writer


def main(paths: list[str]) -> None:
    """The program."""
    if not _CHECKPOINT.value:
        raise ConfigError("--checkpoint is missing; name the --workdir of a training run (no weights come with jaxiqa)")
    if not (paths := [*paths, *_TARGET.value]):
        raise ConfigError("no picture to score; name files or folders: python -m jaxiqa.score --checkpoint W PATH...")
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    if output and output.suffix not in (".csv", ".json"):
        raise ConfigError(f"--output {output} must end in .csv or .json")
    paths = find_pictures(paths)
    compile_cache.enable()
    scorer = Scorer(_CHECKPOINT.value, _STEP.value, _CROPS.value, _BATCH_SIZE.value, explain=_EXPLAIN.value)
    card, columns = scorer.card, (*COLUMNS, *scorer.families)
    direction = "higher" if card.scale.higher_is_better else "lower"
    print(
        f"{card.model['name']} {card.model['variant']}, step {scorer.step} of {scorer.workdir}, crops {card.crops}\n"
        f"trained on {card.dataset or 'a dataset not known'}: "
        f"native {card.scale.lo:g}..{card.scale.hi:g}, {direction} is better",
        *([f"note: {card.note}"] if card.note else []),
        sep="\n",
        file=sys.stderr,
    )
    rows, began = [], time.monotonic()
    head = {"checkpoint": str(scorer.workdir), "step": scorer.step, **card.to_dict()}
    with _output(output, head, columns) as write:
        sys.stdout.reconfigure(errors="surrogateescape")  # file names hold any bytes
        show = _table(paths, scorer.families) if sys.stdout.isatty() else csv_writer(sys.stdout, columns).writerow
        scores = tqdm(scorer.scores(paths), "scoring", len(paths), unit=" pictures", disable=None, leave=False)
        for path, found in zip(paths, scores, strict=True):
            row = dict.fromkeys(columns, "") | {"path": path, "crops": card.crops, "status": "ok"}
            if found.reason:
                row |= {"status": "refused", "reason": found.reason}
            else:
                se = "" if math.isnan(found.se) else found.se
                row |= {"score": found.score, "native": found.native, "se": se}
                row |= zip(scorer.families, found.explanation, strict=True)
            rows.append(row)
            show(row)
            write(row)
    took = time.monotonic() - began
    refused = [row["reason"] for row in rows if row["reason"]]
    print(
        f"scored {len(rows) - len(refused)}, refused {len(refused)} in {took:.1f} s "
        f"({len(rows) / took:.1f} pictures/s, {scorer.predictor.compiled_shapes} compiled shape(s))"
        + (f"; {output}" if output else ""),
        file=sys.stderr,
    )
    if refused and (_STRICT.value or len(refused) == len(rows)):
        raise DataError(f"{len(refused)} of {len(rows)} pictures refused; the first: {refused[0]}")


@contextlib.contextmanager
def _output(path: epath.Path | None, head: dict, columns):
    """write(row) into a CSV, or into a JSON that begins with `head`; the file appears when all is written.

    Whatever stops the program, the rows so far are left in FILE.part.
    """
    if path is None:
        yield lambda row: None
        return
    part, rows = path.with_name(path.name + ".part"), []
    try:
        file = io.TextIOWrapper(part.open("wb"), "utf-8", "surrogateescape", newline="", line_buffering=True)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written ({error.strerror}); name another file") from error
    with full_disk(part), file:
        try:
            yield csv_writer(file, columns).writerow if path.suffix == ".csv" else rows.append
        except BaseException as error:
            error.add_note(f"the rows so far are in {part}")
            raise
        finally:
            if path.suffix == ".json":
                pictures = [{name: None if value == "" else value for name, value in row.items()} for row in rows]
                json.dump({**head, "pictures": pictures}, file, indent=1)
    part.replace(path)


def _table(paths: list[str], families):
    """show(row) for people: the path's end, the score with its standard error, the native value, what is seen."""
    width = min(max(map(len, map(printable, paths))), max(20, os.get_terminal_size().columns - 36))
    print(f"{'picture':{width}}   score      se    native")

    def show(row):
        path = printable(row["path"])
        path = path if len(path) <= width else "…" + path[1 - width :]
        if row["status"] == "ok":
            se = f"{row['se']:7.2f}" if row["se"] != "" else " " * 7
            seen = sorted((name for name in families if row[name] >= 0.1), key=lambda name: -row[name])
            why = "".join(f"  {name} {100 * row[name]:.0f} %" for name in seen)
            tqdm.write(f"{path:{width}} {row['score']:7.2f} {se} {row['native']:9.3f}{why}")
        else:
            tqdm.write(f"{path:{width}} refused: {printable(row['reason'])}")

    return show


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
