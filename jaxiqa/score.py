"""Score images with a trained model, 0 to 100.

  jaxiqa score photo.jpg folder/
  jaxiqa score --checkpoint workdir/mine photo.jpg folder/ --output scores.csv
  jaxiqa score "shards/*.tar" --output results/

Without --checkpoint, the model is the one that comes with jaxiqa, under the name "ready" (for a folder of this name,
write ./ready). It was trained on rendered distortions. Nobody rated its training images.

PATH... are
  FILE     an image
  FOLDER   all files in it with the extension of an image format; subfolders and linked folders are searched too
  "*.png"  a pattern in quotes, which the shell does not expand
  @FILE    a text file with one path in each line; relative paths start at the current folder or, if there is no such
           file, at the folder of FILE
  -        paths from standard input, one in each line or separated by NUL (find -print0)
  TABLE    a file that holds many images: FILE.parquet or FILE.arrow with a column of bytes or of paths, or FILE.tar
           (WebDataset)
  ADDRESS  https://..., s3://..., gs://... of an image or a table; needs the extra [jobs]
Standard output is a table on a terminal, and CSV in a pipe or file. --output also writes FILE.csv, FILE.json or
FILE.jsonl. If --output is a folder, it gets a Parquet file for each shard (part of the images), and nothing is written
to standard output. Repeat the command to resume such a job: shards that have a file are not scored again.

Columns:
  path        the image, or a folder that cannot be opened
  score       0 to 100 over the range of the training set's labels; higher is better. It is not clipped: an image
              worse or better than all of the training set may lie outside, below 0 or above 100.
  native      the score on the scale and in the direction of the training set's labels; empty if nobody rated its images
  se          spread over the crops: standard error of their mean; empty for a single crop. It does not say how far
              the score is from people's opinions: see lo, hi
  crops       the crop policy: grid, overlap, five, auto:N, random:N or whole
  status      "ok" or "refused"
  reason      why the image was refused
  percentile  percent of the model's reference images with a lower score; empty if the checkpoint has no reference
  word        the fifth of 0 to 100 in which the score is: bad, poor, fair, good or excellent
  lo, hi      interval for the mean opinion of people, on the scale of score; it holds the opinions of 90 % of images
              like those that it was calibrated on. Empty if the checkpoint has none (jaxiqa calibrate makes one)
  model       the model and its weights; only in Parquet files and FILE.jsonl
A PATH that does not exist has a row too, unless no PATH exists.
--explain adds reasons: a column for each family of distortions (pristine, blur, colour, ...) with its probability, and
as the last column `severity`, from 0 (none) to 5 (the strongest level); all are means over the crops. They come from a
linear probe of the model's features. The model that ships has a probe. jaxiqa probe makes one for another checkpoint.
--maps DIR writes a quality map of each image: an overlay with boxes around the worst parts (PNG), and the scores of the
overlapping crops, rows by columns (NPY).

For the whole set, --report writes a page, --keep a list of images, and --group_by ranks near-duplicates.

Exit codes: 0 done, 2 usage, 3 no image could be read (with --strict: an image or a folder could not be read),
4 unusable checkpoint, 75 disk full.
"""

import contextlib
import itertools
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError, DataError, printable
from jaxiqa.scoring.jobs.row_files import ENDINGS, csv_writer, writing_rows
from jaxiqa.version import __version__

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS)
_STEP = shared_flags.step(_FLAGS)
_CROPS = shared_flags.crops(_FLAGS)
_TARGET = flags.DEFINE_multi_string(
    "target", [], "Image file or folder to score, in addition to PATH...", short_name="t", flag_values=_FLAGS
)
_OUTPUT = shared_flags.output_file(_FLAGS, *ENDINGS, folder="a folder, for Parquet files that the same command resumes")
_STRICT = flags.DEFINE_bool(
    "strict", False, "Exit with code 3 if any image or folder could not be read.", flag_values=_FLAGS
)
_EXPLAIN = flags.DEFINE_bool(
    "explain",
    False,
    "Add the probabilities of distortion families, and a severity from 0 to 5 (jaxiqa probe).",
    flag_values=_FLAGS,
)
_MAPS = flags.DEFINE_string(
    "maps",
    None,
    "Folder for a quality map of each image, NNNNN_NAME.png and .npy; about five times the time of --crops=grid.",
    flag_values=_FLAGS,
)
_BATCH_SIZE = shared_flags.batch_size(_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)
_COLUMN = flags.DEFINE_string(
    "column",
    None,
    "Column of Parquet and Arrow files with the images, as bytes or paths; default: the only column of bytes, or a "
    "column with a usual name, such as path or file.",
    flag_values=_FLAGS,
)
_READERS = shared_flags.readers(_FLAGS)
_SHARD_SIZE = flags.DEFINE_integer(
    "shard_size", 5000, "Number of images in a Parquet file of --output FOLDER.", lower_bound=1, flag_values=_FLAGS
)
_ENGINE = flags.DEFINE_enum(
    "engine",
    "local",
    ("local", "ray"),
    "What runs a job with --output FOLDER: local (this process) or ray (Ray Data, by the extra [ray]).",
    flag_values=_FLAGS,
)
_RAY_ADDRESS = flags.DEFINE_string(
    "ray_address",
    None,
    "Address of a Ray cluster for --engine=ray, e.g. auto; default: an engine that is started on this machine.",
    flag_values=_FLAGS,
)
_REPORT = shared_flags.report(_FLAGS)
_KEEP = flags.DEFINE_string(
    "keep",
    None,
    'Condition on columns, e.g. "score>=40 and percentile>10". The images that meet it are listed in a file beside '
    "--output, whose name ends in .kept.txt.",
    flag_values=_FLAGS,
)
_GROUP_BY = flags.DEFINE_enum(
    "group_by",
    None,
    ("folder", "time"),
    "Find near-duplicates that are near in their folder, or that were taken within seconds, and rank them in a file "
    "beside --output, whose name ends in .groups.csv.",
    flag_values=_FLAGS,
)

_WIDTH = 60  # letters of a path in the table, if the images are too many to look at all paths first
COLUMNS = ("path", "score", "native", "se", "crops", "status", "reason", "percentile", "word")
INTERVAL = ("lo", "hi")  # after the families of --explain


def main(words: list[str]) -> None:
    """The program."""
    words = [*words, *_TARGET.value]
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    in_shards = output is not None and output.suffix not in ENDINGS
    _check_flags(words, output, in_shards)

    from jaxiqa.scoring.jobs.plan import make_shards

    shards = make_shards(words, _SHARD_SIZE.value, _COLUMN.value)
    first = list(itertools.islice(shards, 2))  # raises if there is nothing to score
    if _MAPS.value and (tables := [shard.table for shard in first if shard.table]):
        raise ConfigError(
            f"--maps takes image files, not the images in {tables[0]}; unpack them", code="conflict", key="--maps"
        )
    if _ENGINE.value == "ray":
        from jaxiqa.scoring.jobs import ray_engine

        ray_engine.connect(_RAY_ADDRESS.value)
    import jax

    from jaxiqa.models import ready
    from jaxiqa.runs import compile_cache
    from jaxiqa.scoring.batch_scorer import BatchScorer
    from jaxiqa.scoring.jobs.answers import Answers
    from jaxiqa.scoring.meter import Meter

    if _ENGINE.value == "ray":
        jax.config.update("jax_platforms", "cpu")  # the devices are for the actors
    with contextlib.redirect_stdout(sys.stderr):  # a warning is no row
        compile_cache.enable()
    scorer = BatchScorer(
        ready.by_default(_CHECKPOINT.value, "--checkpoint"),
        _CROPS.value,
        step=_STEP.value,
        batch_size=_BATCH_SIZE.value,
        readers=_READERS.value,
        explain=_EXPLAIN.value,
        fingerprints=bool(_GROUP_BY.value),
        allow=_ALLOW.value,
    )
    head = _describe(scorer)
    columns = ("path", *scorer.columns)
    answers = Answers(output, columns, _KEEP.value or "", _GROUP_BY.value or "", bool(_REPORT.value))
    meter, count, began = Meter(), _Count(), time.monotonic()
    shards = itertools.chain(first, shards)
    if in_shards:
        asked = _KEEP.value or _GROUP_BY.value or _REPORT.value
        needed = columns if asked else ("reason",)
        rows = _into_folder(output, head, words, scorer, shards, needed, meter, count)
    else:
        known = first[0].files if len(first) == 1 else ()
        rows = _into_file(output, head, scorer, shards, known, meter, count)
    rows = _with_maps(rows, scorer) if _MAPS.value else rows
    written = [str(output)] if output else []
    written += answers.collect(map(count.add, rows))
    took = time.monotonic() - began
    if _REPORT.value:
        _write_report(scorer, answers)
        written.append(_REPORT.value)
    print(
        f"scored {count.rows - count.refused}, refused {count.refused} in {took:.1f} s "
        f"({count.now / took:.1f} images/s{_limits(scorer, meter)})" + "".join(f"; {name}" for name in written),
        file=sys.stderr,
    )
    if count.refused and (_STRICT.value or count.refused == count.rows):
        raise DataError(
            f"{count.refused} of {count.rows} images could not be read; reason for the first: {count.reason}",
            code="faults",
            key=count.reason,
        )


def _check_flags(words: Sequence[str], output: epath.Path | None, in_shards: bool) -> None:
    """Raises ConfigError if there is nothing to score or flags exclude each other."""
    if not words:
        raise ConfigError(
            "there are no images to score; name files or folders: jaxiqa score PATH...",
            code="missing",
            key="images",
        )
    if _MAPS.value and in_shards:
        raise ConfigError(
            f"--maps makes maps of small sets; name a file by --output, not the folder {output}",
            code="conflict",
            key="--maps",
        )
    if _ENGINE.value != "local" and not in_shards:
        raise ConfigError(
            "--engine=ray writes Parquet files; name a folder by --output", code="missing", key="--output"
        )
    for flag in (_KEEP, _GROUP_BY):
        if flag.value and output is None:
            raise ConfigError(
                f"--{flag.name} writes a file beside --output; name one, e.g. --output scores.csv",
                code="missing",
                key=f"--{flag.name}",
            )


def _write_report(scorer, answers) -> None:
    """Writes the page of --report. It reads and scores the images that it shows once more."""
    from jaxiqa.scoring.explain import describe_probe
    from jaxiqa.scoring.jobs.set_report import write_report
    from jaxiqa.scoring.look import Look

    with contextlib.redirect_stdout(sys.stderr):  # a warning is no row
        look = Look(scorer.scorer)
    with program.writes_output(_REPORT.value, "--report"):
        facts = {"model": scorer.model, "crops": scorer.card.crops, "command": _command()}
        if reasons := describe_probe(look.about):
            facts["reasons"] = reasons
        write_report(_REPORT.value, answers.summary, answers.shown, facts, scorer.card.note, look)


def _command() -> str:
    """The command line, for results."""
    return shlex.join(["jaxiqa", "score", *sys.argv[1:]])


class _Count:
    """What the last line says, and what the exit code depends on."""

    def __init__(self) -> None:
        self.rows = self.refused = self.now = 0  # `now`: rows that this command has scored
        self.reason = ""  # of the first refused image

    def add(self, row: dict) -> dict:
        """Counts a row, and returns it."""
        self.rows += 1
        if row["reason"]:
            self.refused += 1
            self.reason = self.reason or row["reason"]
        return row


def _with_maps(rows: Iterator[dict], scorer) -> Iterator[dict]:
    """Yields the rows, and writes the quality map of each scored image to --maps."""
    from jaxiqa.scoring.maps import Maps, write

    folder, maps = epath.Path(_MAPS.value), Maps(scorer.scorer)
    with program.writes_output(folder, "--maps"):
        folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows, 1):
        if not row["reason"]:
            path = row["path"]
            name = f"{number:05d}_{epath.Path(path).stem}"
            write(folder, name, maps(path), f"{printable(path)}: score {row['score']:.1f}")
        yield row


def _describe(scorer) -> dict:
    """Prints what the scores mean. Returns it for the head of a file."""
    from jaxiqa.scoring.explain import describe_probe

    card, loaded = scorer.card, scorer.scorer
    scale = "nobody rated its images, so there is no native scale"
    if not card.is_known:
        scale = "a score is 100 times the output, and higher may be worse"
    elif card.scale:
        direction = "higher" if card.scale.higher_is_better else "lower"
        scale = f"native scale {card.scale.lo:g}..{card.scale.hi:g}, {direction} is better"
    print(
        f"{card.model['name']} {card.model['variant']}, step {loaded.step} of {loaded.workdir}, crops {card.crops}\n"
        f"trained on {card.dataset or 'an unknown dataset'}; {scale}",
        *([f"percentiles are of {card.reference['of']}"] if card.reference else []),
        *filter(None, [describe_probe(loaded.reasons)]),
        *([f"note: {card.note}"] if card.note else []),
        sep="\n",
        file=sys.stderr,
    )
    explained = {"reasons": loaded.reasons} if loaded.reasons else {}
    return {"checkpoint": str(loaded.workdir), "step": loaded.step, **card.to_dict(), **explained}


def _into_file(output: epath.Path | None, head: dict, scorer, shards, known, meter, count) -> Iterator[dict]:
    """Scores shards and shows their rows, which a file also gets if there is one. Yields the rows.

    `known` are the paths of all images, if they are few.
    """
    from jaxiqa.scoring.columns import SEVERITY
    from jaxiqa.scoring.jobs.local import score_shards

    columns = (*COLUMNS, *scorer.families, *INTERVAL, *([SEVERITY] if scorer.families else []))
    stored = ("path", *scorer.columns) if output and output.suffix == ".jsonl" else columns
    with contextlib.ExitStack() as stack:
        write = lambda row: None  # noqa: E731
        if output:
            with program.writes_output(output):
                write = stack.enter_context(writing_rows(output, head, stored))
        show = _table(known, scorer) if sys.stdout.isatty() else csv_writer(sys.stdout, columns).writerow
        scored = score_shards(scorer, enumerate(shards), _COLUMN.value, meter)
        for row in _progress((row for _, row in scored if row is not None), len(known), scorer, meter, count):
            texts = {name: "" if value != value else value for name, value in row.items()}  # NaN is not itself
            show({name: texts[name] for name in columns})
            write({name: texts[name] for name in stored})
            yield row


def _into_folder(
    output: epath.Path, head: dict, words: list[str], scorer, shards, needed, meter, count
) -> Iterator[dict]:
    """Scores the shards that have no file in the folder. Then yields the columns `needed` of all rows."""
    from jaxiqa.scoring.jobs import local, ray_engine
    from jaxiqa.scoring.jobs.results import Results

    about = {**head, "digest": scorer.digest, "command": _command(), "jaxiqa": __version__}
    settings = {
        "images": [word.rstrip("/") or word for word in words],
        "shard_size": _SHARD_SIZE.value,
        "column": _COLUMN.value,
        "weights": scorer.model,
        "crops": scorer.card.crops,
        "columns": scorer.columns,
    }
    with program.writes_output(output):
        results = Results(output, ("path", *scorer.columns), about)
        number = results.start(settings, shards)
        results.discard_unfinished()
        done = results.finished()
    if done:
        print(
            f"{len(done)} of {number} shards are in {output}; they are not scored again, and images that were added "
            "later are not looked for",
            file=sys.stderr,
        )
    todo = [i for i in range(number) if i not in done]
    if _ENGINE.value == "ray":
        rows = ray_engine.write_shards(results, todo, scorer, _COLUMN.value, _RAY_ADDRESS.value) if todo else iter(())
    else:
        rows = local.write_shards(results, todo, scorer, _COLUMN.value, meter)
    for _ in _progress(rows, 0, scorer, meter, count):
        pass
    yield from results.rows(needed)


def _progress(rows: Iterator[dict], total: int, scorer, meter, count) -> Iterator[dict]:
    """Yields the rows, counts them and shows how fast they come; a total of 0 is not known."""
    bar = tqdm(rows, "scoring", total or None, unit=" images", disable=None, leave=False)
    for row in bar:
        count.now += 1
        bar.set_postfix_str(_limits(scorer, meter).removeprefix(", "), refresh=False)
        yield row


def _limits(scorer, meter) -> str:
    """What to say of the speed: whether decoding or the model limits it. "" if other processes do the work."""
    if not meter.images:
        return ""
    return f", {scorer.scorer.predictor.compiled_shapes} compiled shape(s); {meter.rates(scorer.readers)}"


# Columns of the table on a terminal: name, heading, width, decimals.
_NUMBERS = (
    ("score", "score", 8, 2), ("lo", "90 % from", 11, 2), ("hi", "to", 8, 2), ("se", "crop se", 9, 2),
    ("native", "native", 9, 3), ("percentile", "percentile", 12, 0),
)  # fmt: skip


def _table(paths: Sequence[str], scorer):
    """Returns show(row) for a terminal: end of the path, score, interval, native score, meaning, distortions.

    `paths` are those of all images, if they are known. Columns that the checkpoint leaves empty are not shown.
    """
    from jaxiqa.scoring.columns import SEVERITY
    from jaxiqa.scoring.explain import in_words

    card, explained = scorer.card, (*scorer.families, SEVERITY) if scorer.families else ()
    shown = {"lo": card.interval, "hi": card.interval, "native": card.scale, "percentile": card.reference}
    numbers = [column for column in _NUMBERS if shown.get(column[0], True)]
    longest = max(map(len, map(printable, paths)), default=_WIDTH)
    others = sum(wide for *_, wide, _ in numbers) + len("  excellent")
    width = min(longest, max(20, os.get_terminal_size().columns - others))
    print(f"{'image':{width}}{''.join(f'{heading:>{wide}}' for _, heading, wide, _ in numbers)}  word")

    def show(row):
        path = printable(row["path"])
        path = path if len(path) <= width else "…" + path[1 - width :]
        if row["status"] == "ok":
            values = ("".rjust(wide) if row[name] == "" else f"{row[name]:{wide}.{d}f}" for name, _, wide, d in numbers)
            seen = [math.nan if row[name] == "" else row[name] for name in explained]
            why = in_words(scorer.families, seen)
            tqdm.write(f"{path:{width}}{''.join(values)}  {row['word']:9}  {why}".rstrip())
        else:
            tqdm.write(f"{path:{width}} refused: {printable(row['reason'])}")

    return show


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
