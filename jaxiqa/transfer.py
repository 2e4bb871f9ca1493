"""Give pristine images the labels of similar rated images (SAQT).

  jaxiqa transfer --checkpoint converted/resnet101 --dataset kadid10k --data_dir /path/to/kadid10k \\
      --pictures /path/to/kadis700k/ref_imgs --output saqt
  jaxiqa train --config CONFIG --config.dataset.name=saqt --config.dataset.data_dir=saqt ...
  jaxiqa transfer --output saqt --gallery gallery.png

The pool is the folder of pristine images --pictures. For every image of the pool, the program finds the most similar
reference image (the match) of the rated --dataset. It compares features of a converted ResNet. If the image is then
distorted with type t at level l, its label is the score of the match with the same type and level. --dataset is one of:
  kadid10k
  tid2013 or csiq: only the types that KADID-10k has too, level for level
  folder: its index.csv needs columns for the reference (--option group_column=COLUMN), distortion and level

--list restricts the pool to the names in a file, one per line. --matches reads the matches from a CSV file in one of
the published forms of SAQT, and the program computes none. --steer NAME=FOLDER gives the reference images of a further
dataset. With --steer, or if the file of --matches has several datasets, the program selects images from the pool, as
the authors of SAQT did. It selects the --top images most similar to each further dataset, then the images most similar
to the rated dataset, until there are --choose images.

--labels:
  top1       the scores of the best match; needs --checkpoint or --matches
  random     the scores of a random reference, as a control
  cell_mean  the mean score of each type and level, over the references of the training part
random and cell_mean need no matches. Without --checkpoint no matches are computed, and for KADID-10k the file dmos.csv
is enough (--option labels_only=True). --allow_untrained uses an untrained network, whose similarity has no meaning.

The folder --output receives sources.csv, reference_labels.csv and saqt.json (these are the dataset `saqt`),
matches.csv, and features as .npz files, which the next run reuses. --public also writes all labels (0 to 9) and the
matches in the authors' form. --gallery FILE.png shows images beside their matches, from the most to the least
similar. --render FOLDER writes the distorted images as 512x384 BMP files under their public names (3.7 TB for 50,000
images). --types restricts them to some types. Existing files are kept. --gallery and --render also work without
--dataset, on an existing --output.

With many processes (launch/README.md), each process computes features and renders images for its share of the pool.
Process 0 does the rest. All processes must see the folder --output.

Exit codes: 0 done, 2 usage, 3 bad data (unreadable images are named and left out), 4 unusable checkpoint, 75 try
again (disk full, a host is missing), 130 or 143 stopped by Ctrl-C or SIGTERM (repeat the command to continue
rendering).
"""

import contextlib
import os
import time
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from jaxiqa import datasets, program, shared_flags
from jaxiqa.datasets import kadid_types
from jaxiqa.datasets.formats import saqt_files
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.readers import saqt
from jaxiqa.errors import ConfigError, DataError, full_disk
from jaxiqa.files import write_json
from jaxiqa.inputs.image_paths import images_in
from jaxiqa.saqt import labels
from jaxiqa.version import __version__

if TYPE_CHECKING:
    from jaxiqa.saqt.matching import Found, Matcher

_RATED = list(datasets.facts("SHARED_TYPES"))
_FLAGS = flags.FlagValues()
_DATASET = flags.DEFINE_enum("dataset", None, _RATED, "Rated dataset whose labels are transferred.", flag_values=_FLAGS)
_DATA_DIR = shared_flags.data_dir(_FLAGS)
_OPTION = shared_flags.option(_FLAGS)
_REFERENCES = flags.DEFINE_string(
    "references", None, "Folder of the reference images of the dataset; default: below --data_dir.", flag_values=_FLAGS
)
_IMAGES = flags.DEFINE_string("pictures", "", "Folder of the pool of pristine images.", flag_values=_FLAGS)
_LIST = flags.DEFINE_string(
    "list", None, "Text file that restricts the pool to the images it names, one per line.", flag_values=_FLAGS
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Converted ResNet that matches images (jaxiqa convert --model resnet101).", flag_values=_FLAGS
)
_BACKBONE = flags.DEFINE_string(
    "backbone", "resnet101", "Untrained ResNet to use without --checkpoint: resnet50 or resnet101.", flag_values=_FLAGS
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Number of images of 512x384 in a batch.", lower_bound=1, flag_values=_FLAGS
)
_MATCHES = flags.DEFINE_string(
    "matches", None, "CSV file of published matches to read instead of computing matches.", flag_values=_FLAGS
)
_TOP_K = flags.DEFINE_integer(
    "top_k", 1, "Number of matches per image in matches.csv.", lower_bound=1, flag_values=_FLAGS
)
_STEER = flags.DEFINE_multi_string(
    "steer",
    [],
    "NAME=FOLDER with the reference images of a further dataset; similar images of the pool are chosen.",
    flag_values=_FLAGS,
)
_TOP = flags.DEFINE_integer(
    "top", 10_000, "Number of images of the pool to choose for each --steer.", lower_bound=1, flag_values=_FLAGS
)
_CHOOSE = flags.DEFINE_integer(
    "choose", 50_000, "Number of images of the pool to choose in all, with --steer.", lower_bound=1, flag_values=_FLAGS
)
_LABELS = flags.DEFINE_enum(
    "labels",
    "top1",
    labels.MODES,
    "Labels of an image: top1 (scores of its best match), random (of a random reference) or cell_mean (mean of all).",
    flag_values=_FLAGS,
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of --labels random.", flag_values=_FLAGS)
_UNTRAINED = flags.DEFINE_bool(
    "allow_untrained", False, "Allow an untrained network for --labels top1.", flag_values=_FLAGS
)
_PUBLIC = flags.DEFINE_enum(
    "public",
    "none",
    ("none", *saqt_files.FORMS),
    "Also write all labels and matches in a public form: old or new.",
    flag_values=_FLAGS,
)
_GALLERY = flags.DEFINE_string("gallery", None, "FILE.png to draw: images beside their matches.", flag_values=_FLAGS)
_RENDER = flags.DEFINE_string("render", None, "Folder to write distorted images to.", flag_values=_FLAGS)
_TYPES = shared_flags.types(_FLAGS)
_OUTPUT = shared_flags.output_folder(
    _FLAGS, "Folder of the dataset to write, or of an existing one for --gallery and --render"
)
_CLUSTER = shared_flags.cluster(_FLAGS)


def transfer(folder: epath.Path) -> dict[str, str]:
    """Creates the dataset. Returns {name: reason} of the images that could not be read."""
    dataset = datasets.load(_DATASET.value, _DATA_DIR.value, **parse_options(_OPTION.value))
    table = labels.make_table(dataset, kadid_types(dataset.name))
    pool, home = _pool()
    make = _compute_matches if _computes() else _read_matches if _MATCHES.value else _draw_matches
    found, steering, files, made_by, refused = make(table, pool, folder)
    trained, matched = made_by.get("source") != {}, make is not _draw_matches
    if not trained:
        _refuse_untrained()
        print("note: the network is untrained, so the similarity has no meaning")
    if steering:
        from jaxiqa.saqt.selection import choose

        rows = choose(found.names, steering, found.cosine_NK[:, 0], _TOP.value, _CHOOSE.value)
        print(f"{len(rows):,} of {len(found.names):,} images of the pool are chosen by {', '.join(steering)}")
        found = found.take(rows)
    names = found.names
    best = found.number_NK[:, 0]
    number_N = labels.label_sources(_LABELS.value, names, best, len(table.references), _SEED.value)
    places = {name: os.path.join(home, name) if home else "" for name in names}
    if matched:
        saqt_files.write_matches(folder / "matches.csv", places, files, found.number_NK, found.cosine_NK)
    else:  # remove the matches of another run
        (folder / "matches.csv").unlink(missing_ok=True)
    if _PUBLIC.value != "none":
        _write_public(folder / "public", found, files, number_N, table)
    about = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "labels": _LABELS.value,
        "seed": _SEED.value,
        "matches": made_by,
        "trained": trained,
        "score_range": list(dataset.score_range),
        "higher_is_better": dataset.higher_is_better,
        "pictures": home,
        "sources": len(names),
        "jaxiqa": __version__,
    }
    saqt.write(folder, names, number_N, table.references, table.cells, table.mos_RC, about)
    cosine_N = found.cosine_NK[:, 0]
    how = f"similarity {cosine_N.min():.3f} to {cosine_N.max():.3f}" if matched else "drawn at random"
    print(
        f"{len(names):,} images are matched to {len(set(best.tolist()))} of {len(table.references)} references of "
        f"{dataset.name}, {how}\n"
        f"{len(names) * len(table.cells):,} labels ({_LABELS.value}) for {len(table.cells)} types and levels: {folder}"
    )
    return refused


def _computes() -> bool:
    return not _MATCHES.value and bool(_CHECKPOINT.value or _UNTRAINED.value or _STEER.value)


def _pool() -> tuple[dict[str, str], str]:
    """{name: path} of the images of the pool, and its folder. Without --pictures: names of --list, and ""."""
    listed = saqt_files.read_names(_LIST.value) if _LIST.value else None
    if not _IMAGES.value:
        return dict.fromkeys(listed or (), ""), ""
    home = os.path.abspath(os.path.expanduser(_IMAGES.value))
    pool = {os.path.relpath(path, home).replace(os.sep, "/"): path for path in images_in(home)}
    if listed is not None:
        if lost := [name for name in listed if name not in pool]:
            raise DataError(
                f"--list {_LIST.value}: {len(lost):,} images are not in {home}: {', '.join(lost[:10])}",
                code="mismatch",
                key="--list",
            )
        pool = {name: pool[name] for name in listed}
    saqt_files.check_names(list(pool))
    return pool, home


def _draw_matches(table: labels.LabelTable, pool: dict[str, str], _) -> tuple:
    """Random matches, in the form of _compute_matches, for labels that need no matches."""
    from jaxiqa.saqt.matching import by_lot

    found, refused = by_lot(pool, len(table.references), _SEED.value)
    return found, {}, [f"{reference}.png" for reference in table.references], {}, refused


def _read_matches(table: labels.LabelTable, pool: dict[str, str], _) -> tuple:
    """Reads --matches, in the form of _compute_matches. A pool, if given, restricts the images."""
    from jaxiqa.saqt.matching import Found, number_references

    path = _MATCHES.value
    several = saqt_files.read_matches(path)
    key_of = {_key(name) or table.dataset: name for name in several}
    if table.dataset not in key_of:
        raise DataError(
            f"--matches {path} has matches for {', '.join(key_of)}, but none for --dataset {table.dataset}",
            code="mismatch",
            key="--matches",
        )
    own = several.pop(key_of[table.dataset])
    number_N = number_references(own.references, table.references, path)
    saqt_files.check_names(own.sources)
    found = Found(own.sources, number_N[:, None], own.similarity[:, None])
    steering = {name: matches.similarity for name, matches in several.items()}
    if pool:
        row_of = {name: i for i, name in enumerate(own.sources)}
        if _LIST.value and (lost := [name for name in pool if name not in row_of]):
            raise DataError(
                f"--matches {path} has no match for {len(lost):,} images of --list: {', '.join(lost[:10])}",
                code="mismatch",
                key="--matches",
            )
        rows = [row_of[name] for name in (pool if _LIST.value else own.sources) if name in pool]
        if not rows:
            raise DataError(
                f"--matches {path} has no match for any image of --pictures",
                code="mismatch",
                key="--matches",
            )
        print(f"{len(rows):,} of {len(own.sources):,} images of {path} are used")
        found, steering = found.take(rows), {name: values[rows] for name, values in steering.items()}
    place_of = dict(zip(number_N.tolist(), own.references, strict=True))
    files = [place_of.get(r, f"{reference}.png") for r, reference in enumerate(table.references)]
    made_by, beside = {"file": os.path.basename(path)}, os.path.dirname(path)
    if os.path.exists(os.path.join(beside, saqt.FILES[-1])):  # jaxiqa wrote it, perhaps with an untrained network
        made_by |= saqt.read_about(beside)["matches"]
    return found, steering, files, made_by, {}


def _key(name: str) -> str:
    """The key of a dataset that a file of matches names; the name in lower case if the dataset is not known."""
    with contextlib.suppress(ConfigError):
        return datasets.find(name)
    return name.lower()


def _compute_matches(table: labels.LabelTable, pool: dict[str, str], folder: epath.Path) -> tuple:
    """Computes matches by features.

    Returns:
      The matches; {dataset of --steer: similarity of each image}; the files of the reference images; the network that
      made the matches; {name: reason} of the images that could not be read.
    """
    home = os.path.expanduser(_REFERENCES.value or _DATA_DIR.value)
    references = labels.find_references(table.references, home)
    steer = {name: images_in(inside) for name, inside in _steer()}
    matcher, made_by = _make_matcher(pool, folder)
    names = matcher.features.names
    found = matcher(table.dataset, references, _TOP_K.value)
    several = {table.dataset: saqt_files.Matches(names, *_best(found, list(references.values())))}
    for name, paths in steer.items():
        by = matcher(name, {os.path.basename(path): path for path in paths}, 1)
        several[name] = saqt_files.Matches(names, *_best(by, paths))
    if steer:
        saqt_files.write_similarities(folder / "similarities.csv", several)
    steering = {name: several[name].similarity for name in steer}
    return found, steering, list(references.values()), made_by, matcher.features.about["refused"]


def _make_matcher(pool: dict[str, str], folder: epath.Path) -> tuple["Matcher", dict]:
    """Computes the features of the pool in all processes. Returns the Matcher and a description of the network."""
    from jaxiqa.runs import processes
    from jaxiqa.saqt.features import Extractor, load_backbone, untrained_backbone
    from jaxiqa.saqt.matching import Matcher
    from jaxiqa.training import sharding

    processes.meet()  # process 0 has read the rated dataset
    mesh = sharding.make_mesh()
    if _CHECKPOINT.value:
        backbone = load_backbone(_CHECKPOINT.value, mesh)
    else:
        backbone = untrained_backbone(_BACKBONE.value, mesh)
    mesh = sharding.local_mesh(mesh)
    extractor, began = Extractor(backbone, mesh, _BATCH_SIZE.value), time.monotonic()
    matcher = Matcher(pool, extractor, mesh, folder)
    took, count = time.monotonic() - began, len(matcher.features.names)
    print(f"features of {count:,} images: {took:.1f} s, {extractor.compiled_shapes} shapes compiled")
    return matcher, backbone.about


def _best(found: "Found", paths: list[str]) -> tuple:
    """File names of the best matches, and their similarities."""
    return [os.path.basename(paths[r]) for r in found.number_NK[:, 0]], found.cosine_NK[:, 0]


def _steer() -> list[tuple[str, str]]:
    pairs = [tuple(text.partition("=")[::2]) for text in _STEER.value]
    for name, inside in pairs:
        if not (name.isidentifier() and inside) or name in (_DATASET.value, "pictures"):
            raise ConfigError(
                f"--steer {name}: write it as NAME=FOLDER; NAME must be an identifier other than pictures and the name "
                "of --dataset",
                code="value",
                key="--steer",
            )
    return pairs


def _write_public(folder: epath.Path, found: "Found", files: list[str], number_N, table: labels.LabelTable) -> None:
    """Writes labels, 0..9, and matches in a form that the tools of the authors read."""
    began, form = time.monotonic(), _PUBLIC.value
    images = [os.path.basename(file) for file in files]
    written, rows = saqt_files.write_labels(
        folder, form, found.names, images, number_N, table.public(_LABELS.value), table.cells
    )
    if form == "old" and (folder.parent / "matches.csv").exists():
        matches = {table.dataset: saqt_files.Matches(found.names, *_best(found, images))}
        saqt_files.write_similarities(folder / f"similarity_img_in_{table.dataset}.csv", matches)
    lo, hi = table.extremes
    manifest = {"rows": rows, "sources": len(found.names), "batch_size": saqt_files.BATCH, "files": written, "rank": 1}
    manifest |= {"dataset": table.dataset, "labels": _LABELS.value, "label": f"9 * (mos - {lo:g}) / ({hi:g} - {lo:g})"}
    write_json(folder / "manifest.json", manifest)
    print(f"{rows:,} labels in {len(written)} public file(s): {time.monotonic() - began:.1f} s")


def _render(folder: epath.Path, target: str) -> None:
    """Writes the distorted images. Each process writes those of its share of the pool."""
    import jax

    from jaxiqa.distortions import parse_types
    from jaxiqa.inputs.render import render_whole
    from jaxiqa.runs import processes

    paths, records = saqt.to_render(folder, _IMAGES.value, parse_types(_TYPES.value))
    number_of = {path: n for n, path in enumerate(paths)}
    index, count, cells = jax.process_index(), jax.process_count(), len(records) // len(paths)
    mine = range(*(len(paths) * i // count * cells for i in (index, index + 1)))

    def place(record):
        return os.path.join(target, saqt_files.distorted_name(number_of[record.path], record.path, *record.apply))

    try:
        written = sum(processes.gather(render_whole(map(records.__getitem__, mine), place, len(mine))))
    except BaseException as error:
        error.add_note("repeat the command to continue where it stopped")
        raise
    print(f"{written:,} images written to {target}, {len(records) - written:,} existed already")


def _check_flags() -> None:
    """Refuses flags that cannot work, before any file is read."""
    if _MATCHES.value:
        for name, value in (("checkpoint", _CHECKPOINT.value), ("steer", _STEER.value)):
            if value:
                raise ConfigError(
                    f"--{name} computes matches and --matches reads them; give one of the two",
                    code="conflict",
                    key="--matches",
                )
        return
    if not _IMAGES.value:
        raise ConfigError(
            "--pictures is missing; name the folder of pristine images, or give --matches FILE.csv",
            code="missing",
            key="--pictures",
        )
    if not _CHECKPOINT.value:
        _refuse_untrained()


def _refuse_untrained() -> None:
    if _LABELS.value == "top1" and not _UNTRAINED.value:
        raise ConfigError(
            "--checkpoint is missing, and the similarity of an untrained network has no meaning; convert ImageNet "
            "weights (jaxiqa convert --model resnet101), or give --labels random, --labels cell_mean or "
            "--allow_untrained",
            code="missing",
            key="--checkpoint",
        )


def _run(folder: epath.Path) -> dict[str, str]:
    """Runs the parts that the flags select. Returns {name: reason} of the images that could not be read."""
    from jaxiqa.runs import processes

    refused = {}
    if _DATASET.value:
        folder.mkdir(parents=True, exist_ok=True)
        if processes.is_first():
            refused = transfer(folder)
        elif _computes():
            _make_matcher(_pool()[0], folder)
    if _GALLERY.value and processes.is_first():
        from jaxiqa.saqt.gallery import draw_gallery

        draw_gallery(folder, _GALLERY.value)
        print(f"{_GALLERY.value} shows images beside their matches")
    if _RENDER.value:
        processes.meet()  # until process 0 has written the dataset
        _render(folder, _RENDER.value)
    return refused


def main() -> None:
    """The program."""
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the dataset", code="missing", key="--output")
    folder = epath.Path(_OUTPUT.value)
    if not _DATASET.value and not (_GALLERY.value or _RENDER.value):
        raise ConfigError(
            "--dataset is missing; name the rated dataset whose labels are transferred, e.g. kadid10k",
            code="missing",
            key="--dataset",
        )
    if _DATASET.value:
        _check_flags()

    from jaxiqa.runs import compile_cache, processes

    with processes.start(folder, **_CLUSTER(), preemption=False, report=program.report):
        compile_cache.enable()
        try:
            with full_disk(folder):
                refused = _run(folder)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigError(
                f"{error.filename or folder} cannot be written ({error.strerror}); name another --output",
                code="unwritable",
                key="--output",
            ) from error
    for reason in refused.values():
        print(f"refused: {reason}")
    if refused:
        raise DataError(
            f"{len(refused)} image(s) of the pool could not be used and are left out: {', '.join(refused)}",
            code="faults",
            key="--pictures",
        )


if __name__ == "__main__":
    program.run(main, _FLAGS)
