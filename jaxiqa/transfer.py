"""Give pristine pictures the quality labels of similar pictures that people have rated (SAQT).

  python -m jaxiqa.transfer --checkpoint converted/resnet101 --dataset kadid10k --data_dir /path/to/kadid10k \\
      --pictures /path/to/kadis700k/ref_imgs --output saqt
  python -m jaxiqa.train --config CONFIG --config.dataset.name=saqt --config.dataset.data_dir=saqt ...
  python -m jaxiqa.transfer --output saqt --gallery gallery.png

For every picture of the pool --pictures (or of those that --list names, one a line), the most similar reference picture
of the rated --dataset is found by features of a converted ResNet. A version of the picture with distortion type t at
level l then has the score that people gave to the reference with the same distortion. --dataset is kadid10k; tid2013 or
csiq, of which the types shared with KADID-10k are taken, level for level; or a folder whose index.csv has columns for
the reference (--option group_column=COLUMN), distortion and level.

--matches reads the matches from a CSV in one of the forms that SAQT was published in, instead of computing them. With
several datasets in it, or with --steer NAME=FOLDER (their reference pictures), the pool is chosen as in the released
set: the --top pictures most like each of them, filled up to --choose with those most like the rated dataset.

--labels: top1 (the best match), random (any reference, to compare with) or cell_mean (the mean of the references by
type and level; of those that train, where the dataset is read). The last two need no matches: without --checkpoint none
are computed, and KADID-10k's dmos.csv is enough (--option labels_only=True). top1 needs --checkpoint or --matches; with
--allow_untrained a network that has learnt nothing matches, whose similarity has no meaning.

The folder --output receives sources.csv, reference_labels.csv and saqt.json, which are the dataset `saqt`, matches.csv,
and features as .npz, which the next run takes up. --public writes all labels, 0..9, and the matches as the authors'
tools read them. --gallery FILE.png shows pictures beside their matches, from the most to the least similar. --render
FOLDER writes the distorted pictures as 512x384 BMP under their public names (3.7 TB for 50,000), of --types only where
given; files that exist are kept. Both also work alone, on an --output that is there.

In many processes (launch/README.md) each computes the features of a share of the pool and renders a share of the
pictures, and the first does the rest; --output must be a folder that all of them see.

Exit codes: 0 done, 2 usage, 3 bad data (pictures that cannot be read are left out and named), 4 unusable checkpoint, 75
try again (disk full, a host is missing), 130 / 143 stopped by Ctrl-C / SIGTERM (rendering goes on where it stopped).
"""

import contextlib
import os
import time

import jax
from absl import flags
from etils import epath

from jaxiqa import datasets, program
from jaxiqa.datasets import kadid_types, saqt, saqt_files
from jaxiqa.datasets.options import parse_options
from jaxiqa.distortions import parse_types
from jaxiqa.errors import ConfigError, DataError, full_disk
from jaxiqa.evaluation import report
from jaxiqa.inputs.files import find_pictures
from jaxiqa.inputs.render import render_whole
from jaxiqa.models.resnet import VARIANTS
from jaxiqa.retrieval import labels
from jaxiqa.retrieval.features import Extractor, load_backbone, untrained_backbone
from jaxiqa.retrieval.gallery import draw_gallery
from jaxiqa.retrieval.matching import Found, Matcher, by_lot, number_references
from jaxiqa.retrieval.selection import choose
from jaxiqa.runs import compile_cache, processes
from jaxiqa.training import sharding
from jaxiqa.version import __version__

_LENDERS = list(datasets.facts("SHARED_TYPES"))
_DATASET = flags.DEFINE_enum("dataset", None, _LENDERS, "Rated dataset that the labels are from.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Its folder.")
_OPTION = flags.DEFINE_multi_string("option", [], "KEY=VALUE, an option of the dataset's reader; may be repeated.")
_REFERENCES = flags.DEFINE_string("references", None, "Folder of its reference pictures; default: below --data_dir.")
_PICTURES = flags.DEFINE_string("pictures", "", "Folder of the pool of pristine pictures.")
_LIST = flags.DEFINE_string("list", None, "Text file: these pictures of the pool, one name a line.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Converted ResNet (python -m jaxiqa.convert --model resnet101).")
_BACKBONE = flags.DEFINE_enum("backbone", "resnet101", list(VARIANTS), "Without --checkpoint: the untrained network.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Pictures of 512x384 in a batch.", lower_bound=1)
_MATCHES = flags.DEFINE_string("matches", None, "CSV of published matches, instead of computing them.")
_TOP_K = flags.DEFINE_integer("top_k", 1, "Matches of each picture in matches.csv; labels use the best.", lower_bound=1)
_STEER = flags.DEFINE_multi_string("steer", [], "NAME=FOLDER, references to choose the pool by; may be repeated.")
_TOP = flags.DEFINE_integer("top", 10_000, "Pictures taken for each dataset that steers.", lower_bound=1)
_CHOOSE = flags.DEFINE_integer("choose", 50_000, "Pictures in all, where datasets steer.", lower_bound=1)
_LABELS = flags.DEFINE_enum("labels", "top1", labels.MODES, "Whose scores a picture gets.")
_SEED = flags.DEFINE_integer("seed", 0, "Of --labels random.")
_UNTRAINED = flags.DEFINE_bool("allow_untrained", False, "Let an untrained network match for --labels top1.")
_PUBLIC = flags.DEFINE_enum("public", "none", ("none", *saqt_files.FORMS), "Also write public files of this form.")
_GALLERY = flags.DEFINE_string("gallery", None, "FILE.png to draw.")
_RENDER = flags.DEFINE_string("render", None, "Folder to write distorted pictures to.")
_TYPES = flags.DEFINE_string("types", "all", "Types to render: names and numbers with commas, e.g. jpeg2000,10,15.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the new dataset, or of one that is there.")
_CLUSTER = program.cluster_flags()


def transfer(folder: epath.Path) -> dict[str, str]:
    """Makes the dataset; returns {name: why} of the pictures that could not be read."""
    dataset = datasets.load(_DATASET.value, _DATA_DIR.value, **parse_options(_OPTION.value))
    table = labels.make_table(dataset, kadid_types(dataset.name))
    pool, home = _pool()
    make = _compute_matches if _computes() else _read_matches if _MATCHES.value else _by_lot
    made = make(table, pool, folder)
    found, steering, files, made_by, refused = made
    trained, matched = made_by.get("source") != {}, make is not _by_lot
    if not trained:
        _refuse_untrained()
        print("note: the network is untrained, so the similarity has no meaning")
    if steering:
        rows = choose(found.names, steering, found.cosine_NK[:, 0], _TOP.value, _CHOOSE.value)
        print(f"{len(rows):,} of {len(found.names):,} pictures chosen, steered by {', '.join(steering)}")
        found = found.take(rows)
    names = found.names
    best = found.number_NK[:, 0]
    number_N = labels.label_sources(_LABELS.value, names, best, len(table.references), _SEED.value)
    places = {name: os.path.join(home, name) if home else "" for name in names}
    if matched:
        saqt_files.write_matches(folder / "matches.csv", places, files, found.number_NK, found.cosine_NK)
    else:  # those of another run
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
    how = f"similarity {cosine_N.min():.3f} to {cosine_N.max():.3f}" if matched else "drawn by lot"
    print(
        f"{len(names):,} pictures are like {len(set(best.tolist()))} of {len(table.references)} references of "
        f"{dataset.name}, {how}\n"
        f"{len(names) * len(table.cells):,} labels, {_LABELS.value}, for {len(table.cells)} types and levels: {folder}"
    )
    return refused


def _computes() -> bool:
    return not _MATCHES.value and bool(_CHECKPOINT.value or _UNTRAINED.value or _STEER.value)


def _pool() -> tuple[dict[str, str], str]:
    """{name: path} of the pool's pictures and its folder; without --pictures the names of --list, and ""."""
    listed = saqt_files.read_names(_LIST.value) if _LIST.value else None
    if not _PICTURES.value:
        return dict.fromkeys(listed or (), ""), ""
    home = os.path.abspath(os.path.expanduser(_PICTURES.value))
    pool = {os.path.relpath(path, home).replace(os.sep, "/"): path for path in find_pictures([home])}
    if listed is not None:
        if lost := [name for name in listed if name not in pool]:
            raise DataError(f"--list {_LIST.value}: {len(lost):,} pictures are not in {home}: {', '.join(lost[:10])}")
        pool = {name: pool[name] for name in listed}
    saqt_files.check_names(list(pool))
    return pool, home


def _by_lot(table: labels.LabelTable, pool: dict[str, str], _) -> tuple:
    """What _compute_matches gives, without a network; for labels that ask for no match."""
    found, refused = by_lot(pool, len(table.references), _SEED.value)
    return found, {}, [f"{reference}.png" for reference in table.references], {}, refused


def _read_matches(table: labels.LabelTable, pool: dict[str, str], _) -> tuple:
    """What _compute_matches gives, from --matches; the pool, where one is given, says which pictures are taken."""
    path = _MATCHES.value
    several = saqt_files.read_matches(path)
    key_of = {_key(name) or table.dataset: name for name in several}
    if table.dataset not in key_of:
        raise DataError(f"--matches {path} has matches in {', '.join(key_of)}, not in --dataset {table.dataset}")
    own = several.pop(key_of[table.dataset])
    number_N = number_references(own.references, table.references, path)
    saqt_files.check_names(own.sources)
    found = Found(own.sources, number_N[:, None], own.similarity[:, None])
    steering = {name: matches.similarity for name, matches in several.items()}
    if pool:
        row_of = {name: i for i, name in enumerate(own.sources)}
        if _LIST.value and (lost := [name for name in pool if name not in row_of]):
            raise DataError(
                f"--matches {path} has no match of {len(lost):,} pictures of --list: {', '.join(lost[:10])}"
            )
        rows = [row_of[name] for name in (pool if _LIST.value else own.sources) if name in pool]
        if not rows:
            raise DataError(f"--matches {path} has matches of other pictures than those of --pictures")
        print(f"{len(rows):,} of {len(own.sources):,} pictures of {path} are taken")
        found, steering = found.take(rows), {name: values[rows] for name, values in steering.items()}
    place_of = dict(zip(number_N.tolist(), own.references, strict=True))
    files = [place_of.get(r, f"{reference}.png") for r, reference in enumerate(table.references)]
    made_by, beside = {"file": os.path.basename(path)}, os.path.dirname(path)
    if os.path.exists(os.path.join(beside, saqt.FILES[-1])):  # it is one of ours, and may be of an untrained network
        made_by |= saqt.read_about(beside)["matches"]
    return found, steering, files, made_by, {}


def _key(name: str) -> str:
    """Of a dataset that a file of matches names; the name itself if we have no such dataset."""
    with contextlib.suppress(ConfigError):
        return datasets.find(name)
    return name.lower()


def _compute_matches(table: labels.LabelTable, pool: dict[str, str], folder: epath.Path) -> tuple:
    """Matches, {dataset that steers: similarity}, reference pictures, what made them, {name: why} of bad pictures."""
    home = os.path.expanduser(_REFERENCES.value or _DATA_DIR.value)
    references = labels.find_references(table.references, home)
    steer = {name: find_pictures([inside]) for name, inside in _steer()}
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


def _make_matcher(pool: dict[str, str], folder: epath.Path) -> tuple[Matcher, dict]:
    """The pool with its features, and what network made them; all processes make it together."""
    processes.meet()  # the first has read the rated dataset
    mesh = sharding.make_mesh()
    if _CHECKPOINT.value:
        backbone = load_backbone(_CHECKPOINT.value, mesh)
    else:
        backbone = untrained_backbone(_BACKBONE.value, mesh)
    mesh = sharding.local_mesh(mesh)
    extractor, began = Extractor(backbone, mesh, _BATCH_SIZE.value), time.monotonic()
    matcher = Matcher(pool, extractor, mesh, folder)
    took, count = time.monotonic() - began, len(matcher.features.names)
    print(f"features of {count:,} pictures: {took:.1f} s, {extractor.compiled_shapes} shapes compiled")
    return matcher, backbone.about


def _best(found: Found, paths: list[str]) -> tuple:
    """Names of the best matches, and their similarity."""
    return [os.path.basename(paths[r]) for r in found.number_NK[:, 0]], found.cosine_NK[:, 0]


def _steer() -> list[tuple[str, str]]:
    pairs = [tuple(text.partition("=")[::2]) for text in _STEER.value]
    for name, inside in pairs:
        if not (name.isidentifier() and inside) or name in (_DATASET.value, "pictures"):
            raise ConfigError(f"--steer {name}: write it as NAME=FOLDER, with another name than --dataset")
    return pairs


def _write_public(folder: epath.Path, found: Found, files: list[str], number_N, table: labels.LabelTable) -> None:
    """Labels, 0..9, and matches in a form that the authors' tools read."""
    began, form = time.monotonic(), _PUBLIC.value
    pictures = [os.path.basename(file) for file in files]
    written, rows = saqt_files.write_labels(
        folder, form, found.names, pictures, number_N, table.public(_LABELS.value), table.cells
    )
    if form == "old" and (folder.parent / "matches.csv").exists():
        matches = {table.dataset: saqt_files.Matches(found.names, *_best(found, pictures))}
        saqt_files.write_similarities(folder / f"similarity_img_in_{table.dataset}.csv", matches)
    lo, hi = table.extremes
    manifest = {"rows": rows, "sources": len(found.names), "batch_size": saqt_files.BATCH, "files": written, "rank": 1}
    manifest |= {"dataset": table.dataset, "labels": _LABELS.value, "label": f"9 * (mos - {lo:g}) / ({hi:g} - {lo:g})"}
    report.write_json(folder / "manifest.json", manifest)
    print(f"{rows:,} labels in {len(written)} public files: {time.monotonic() - began:.1f} s")


def _render(folder: epath.Path, target: str) -> None:
    """Writes the distorted pictures; each process those of its share of the sources."""
    paths, records = saqt.to_render(folder, _PICTURES.value, parse_types(_TYPES.value))
    number_of = {path: n for n, path in enumerate(paths)}
    index, count, cells = jax.process_index(), jax.process_count(), len(records) // len(paths)
    mine = range(*(len(paths) * i // count * cells for i in (index, index + 1)))

    def place(record):
        return os.path.join(target, saqt_files.distorted_name(number_of[record.path], record.path, *record.apply))

    try:
        written = sum(processes.gather(render_whole(map(records.__getitem__, mine), place, len(mine))))
    except BaseException as error:
        error.add_note("the same command goes on where it stopped")
        raise
    print(f"{written:,} pictures written to {target}, {len(records) - written:,} were there")


def _check_flags() -> None:
    """Refuse what cannot work before anything is read."""
    if _MATCHES.value:
        for name, value in (("checkpoint", _CHECKPOINT.value), ("steer", _STEER.value)):
            if value:
                raise ConfigError(f"--{name} computes matches and --matches reads them; give one of the two")
        return
    if not _PICTURES.value:
        raise ConfigError("--pictures is missing; name the folder of pristine pictures (or --matches FILE.csv)")
    if not _CHECKPOINT.value:
        _refuse_untrained()


def _refuse_untrained() -> None:
    if _LABELS.value == "top1" and not _UNTRAINED.value:
        raise ConfigError(
            "without --checkpoint the network is untrained and its similarity has no meaning; convert ImageNet weights "
            "(python -m jaxiqa.convert --model resnet101), or take --labels random, --labels cell_mean or "
            "--allow_untrained"
        )


def _run(folder: epath.Path) -> dict[str, str]:
    """What the flags ask for; returns {name: why} of the pictures that could not be read."""
    refused = {}
    if _DATASET.value:
        folder.mkdir(parents=True, exist_ok=True)
        if processes.is_first():
            refused = transfer(folder)
        elif _computes():
            _make_matcher(_pool()[0], folder)
    if _GALLERY.value and processes.is_first():
        draw_gallery(folder, _GALLERY.value)
        print(f"pictures beside their matches: {_GALLERY.value}")
    if _RENDER.value:
        processes.meet()  # the dataset is there
        _render(folder, _RENDER.value)
    return refused


def main() -> None:
    """The program."""
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a folder for the dataset")
    folder = epath.Path(_OUTPUT.value)
    if not _DATASET.value and not (_GALLERY.value or _RENDER.value):
        raise ConfigError("--dataset is missing; name the rated dataset that the labels are from, e.g. kadid10k")
    if _DATASET.value:
        _check_flags()
    with processes.start(folder, **_CLUSTER(), preemption=False, report=program.report):
        compile_cache.enable()
        try:
            with full_disk(folder):
                refused = _run(folder)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ConfigError(f"{error.filename or folder} cannot be written ({error.strerror})") from error
    for reason in refused.values():
        print(f"refused: {reason}")
    if refused:
        raise DataError(f"{len(refused)} of the pictures could not be used, and are left out: {', '.join(refused)}")


if __name__ == "__main__":
    program.run(main)
