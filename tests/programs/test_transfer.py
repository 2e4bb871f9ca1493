"""jaxiqa transfer: a pool with known matches, its labels, public files, gallery, rendering, refusals."""

import csv
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from hosts import Hosts
from PIL import Image, ImageFilter
from tiny_run import check_refusals, run_many, run_program, run_with_small_files

from jaxiqa import datasets
from jaxiqa.datasets.readers import saqt
from jaxiqa.datasets.readers.kadid10k import DISTORTIONS
from jaxiqa.distortions import distort_exact
from jaxiqa.inputs.render import seed_of
from jaxiqa.inputs.transforms import whole
from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.saqt.feature_file import read_features, write_features
from jaxiqa.saqt.features import describe
from jaxiqa.training.state import jit_once

TYPES, COUNT = (1, 10, 18), 14
KINDS = ("left", "right", "mirrored", "upside_down", "blurred")


def read(path, encoding="utf-8-sig"):
    with open(path, newline="", encoding=encoding) as file:
        return list(csv.DictReader(file))


def reference(number):
    """An image with two colours and a grain of its own."""
    rng = np.random.default_rng(number)
    hue, grain = 2 * np.pi * number / COUNT, (3, 8)[number % 2]
    colours = [127 + 110 * np.array([np.cos(hue + a), np.cos(hue + a + 2.1), np.cos(hue + a + 4.2)]) for a in (0, 1)]
    coarse = rng.random((-(-96 // grain), 128 // grain, 1)).repeat(grain, 0).repeat(grain, 1)[:96, :126]
    return np.clip(coarse * colours[0] + (1 - coarse) * colours[1], 0, 255).astype(np.uint8)


def derived(image, kind):
    height, width = image.shape[:2]
    return {
        "left": image[:, : width * 3 // 4],
        "right": image[height // 8 :, width // 4 :],
        "mirrored": image[:, ::-1],
        "upside_down": image[::-1],
        "blurred": np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.7))),
    }[kind]


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A folder of rated images; each reference has its own scores. The distorted images are empty files."""
    folder, rng = tmp_path_factory.mktemp("rated"), np.random.default_rng(0)
    (folder / "refs").mkdir()
    with open(folder / "index.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos", "content", "distortion", "level"])
        for r in range(COUNT):
            Image.fromarray(reference(r)).save(folder / "refs" / f"Ref{r:02d}.png")
            for type_ in TYPES:
                for level in range(1, 6):
                    name = f"{r}_{type_}_{level}.png"
                    (folder / name).touch()
                    mos = round(1 + 4 * rng.random(), 3)
                    rows.writerow([name, mos, f"Ref{r:02d}", DISTORTIONS[type_ - 1], level])
    return folder


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Five images derived from each reference, in folders by kind, and one file that is not an image."""
    folder = tmp_path_factory.mktemp("pool")
    for kind in KINDS:
        (folder / kind).mkdir()
        for r in range(COUNT):
            Image.fromarray(derived(reference(r), kind)).save(folder / kind / f"{kind}-{r}.png")
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The tiny ResNet with random weights, as jaxiqa convert would write it."""
    import jax

    model = create_model("resnet", "test")
    state = jax.device_get(jit_once(model.init)(jax.random.key(3), np.zeros((1, 64, 64, 3), np.float32)))
    card = {"model": {"name": "resnet", "variant": "test"}}
    workdir = tmp_path_factory.mktemp("converted")
    save_once(workdir, dict(state), CheckpointMeta(card=card, source={"file": "resnet.pth", "sha256": "0" * 64}))
    return workdir


def dataset_flags(rated):
    return ("--dataset=folder", f"--data_dir={rated}", "--option=group_column=content")


@pytest.fixture(scope="module")
def made(rated, pool, checkpoint, tmp_path_factory):
    """The folder of the dataset, and the standard output of the program."""
    output = tmp_path_factory.mktemp("out") / "saqt"
    done = run_program(
        "transfer", *dataset_flags(rated), f"--pictures={pool}", f"--checkpoint={checkpoint}", f"--output={output}",
        "--top_k=3", "--public=new", f"--gallery={output}.png",
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 3 and last.startswith("jaxiqa transfer: 1 ") and "broken.png" in last
    return output, done.stdout


def scores(rated):
    """{(reference, type, level): score}"""
    number = {name: i for i, name in enumerate(DISTORTIONS, 1)}
    return {
        (row["content"], number[row["distortion"]], int(row["level"])): float(row["mos"])
        for row in read(rated / "index.csv")
    }


def test_every_image_is_matched_to_its_parent_and_receives_its_scores(made, rated, pool):
    output, printed = made
    found = read(output / "matches.csv")
    assert len(found) == 3 * COUNT * len(KINDS) and [row["rank"] for row in found[:4]] == ["1", "2", "3", "1"]
    best = {row["source_image"]: row["target_reference"] for row in found if row["rank"] == "1"}
    right = {name for name, match in best.items() if match == f"Ref{int(name[:-4].split('-')[1]):02d}.png"}
    print(f"parents found: {len(right)} of {len(best)}")
    assert len(best) == COUNT * len(KINDS) and len(right) >= 0.95 * len(best)
    similarity = [float(row["cosine_similarity"]) for row in found]
    assert all(a >= b >= c for a, b, c in zip(*(similarity[i::3] for i in range(3)), strict=True))
    assert all(os.path.isfile(row[f"{end}_path"]) for row in found[:9] for end in ("source", "target_reference"))
    d, expected = datasets.load("saqt", output), scores(rated)
    assert len(d) == len(best) and len(d.transferred.cells) == 15 and d.score_range == (1.0, 5.0)
    for r, mos_C in zip(d.records, d.transferred.mos_NC, strict=True):
        assert f"{r.reference}.png" == best[os.path.relpath(r.path, pool)]
        assert mos_C.tolist() == [expected[r.reference, *cell] for cell in d.transferred.cells]
    about = json.loads((output / "saqt.json").read_text())
    assert about["matches"] == {"network": "test", "source": {"file": "resnet.pth", "sha256": "0" * 64}}
    assert about["trained"] and about["sources"] == len(best)
    assert "features of 70 images" in printed and "1,050 labels" in printed and "top1" in printed
    assert any(line.startswith("refused: ") and "broken.png" in line for line in printed.splitlines())


def test_public_labels(made, rated):
    output, printed = made
    expected = scores(rated)
    lo, hi = min(expected.values()), max(expected.values())
    sources = read(output / "sources.csv")
    rows = read(output / "public" / "labels_batch_0001.csv")
    assert len(rows) == 15 * len(sources) and "1,050 labels in 1 public " in printed
    for row, source in zip(rows[::15], sources, strict=True):
        assert row["source_image"] == source["source_image"] and row["distorted_image"].endswith("_01_01.bmp")
    for row in rows:
        key = row["matched_reference"][:-4], int(row["distortion_type"]), int(row["distortion_level"])
        assert abs(float(row["quality_score"]) - 9 * (expected[key] - lo) / (hi - lo)) < 1e-6
    manifest = json.loads((output / "public" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["sources"], manifest["rank"]) == (1050, 70, 1)


def test_gallery(made):
    output, _ = made
    with Image.open(f"{output}.png") as sheet:
        assert sheet.width > 1500 and sheet.height > 1000  # 24 pairs, three in a row


def test_matches_from_a_file_and_other_modes(made, rated, pool, tmp_path):
    """Features are not computed again, written matches give the same dataset, and the old public form."""
    output, _ = made
    again = run_program(
        "transfer", *dataset_flags(rated), f"--pictures={pool}", f"--matches={output / 'matches.csv'}",
        f"--output={tmp_path / 'again'}", "--public=old",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    for file in ("sources.csv", "reference_labels.csv"):
        assert (tmp_path / "again" / file).read_bytes() == (output / file).read_bytes()
    old = read(tmp_path / "again/public/dataset_001.csv")
    new = read(output / "public/labels_batch_0001.csv")
    assert [tuple(row.values()) for row in old] == [(r["distorted_image"], r["quality_score"]) for r in new]
    similarity = tmp_path / "again/public/similarity_img_in_folder.csv"
    assert list(read(similarity)[0]) == ["kadis", "folder", "sim_value"]

    lines = [row["source_image"] for row in read(output / "sources.csv")][40:10:-2]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    drawn = run_program(
        "transfer", *dataset_flags(rated), f"--pictures={pool}", f"--matches={similarity}", "--labels=random",
        f"--list={tmp_path / 'list.txt'}", f"--output={tmp_path / 'random'}",
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    rows, match = read(tmp_path / "random/sources.csv"), {r["source_image"]: r["reference"] for r in
                                                          read(output / "sources.csv")}  # fmt: skip
    assert [row["source_image"] for row in rows] == lines
    assert sum(row["reference"] != match[row["source_image"]] for row in rows) > 0
    assert "at random" in datasets.load("saqt", tmp_path / "random", round=2).note


def test_labels_that_need_no_matches(rated, pool, tmp_path):
    """They need neither a network nor reference images. Images that cannot be read are found."""
    lines = [f"left/left-{r}.png" for r in range(COUNT)]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "broken.png"]))
    modes = ("random", "cell_mean")
    for mode in modes:
        (tmp_path / mode).mkdir()
        (tmp_path / mode / "matches.csv").write_text("of another run")
    options = (f"--pictures={pool}", f"--list={tmp_path / 'list.txt'}", f"--references={tmp_path}", "--public=old")
    lines = [(*dataset_flags(rated), *options, f"--labels={m}", f"--output={tmp_path / m}") for m in modes]
    for mode, (code, printed, error) in zip(modes, run_many("transfer", lines), strict=True):
        assert code == 3 and "broken.png" in error, error
        references = {row["reference"] for row in read(tmp_path / mode / "sources.csv")}
        assert "14 images" in printed and f"{len(references)} of 14 references of folder" in printed
        assert "210 labels" in printed and mode in printed and "features" not in printed
        files = sorted(path.name for path in (tmp_path / mode).iterdir())
        assert files == ["public", "reference_labels.csv", "saqt.json", "sources.csv"]
        assert {path.name for path in (tmp_path / mode / "public").iterdir()} == {"dataset_001.csv", "manifest.json"}
        d = datasets.load("saqt", tmp_path / mode, hold_out=False)
        assert len(d) == 14 and d.note and "untrained" not in d.note


def test_a_full_disk(rated, pool, tmp_path):
    output = tmp_path / "saqt"
    options = (*dataset_flags(rated), f"--pictures={pool}", "--labels=cell_mean", f"--output={output}")
    done = run_with_small_files("transfer", 2000, *options)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 75 and f"{output}/sources.csv" in line and "File too large" in line, line
    assert not any(output.iterdir())


@pytest.mark.slow
def test_a_pool_steered_by_other_datasets(made, rated, pool, tmp_path):
    """The network is untrained, which a note reports. The second run reuses its features."""
    options = (
        *dataset_flags(rated), f"--pictures={pool / 'left'}", "--backbone=test", "--allow_untrained",
        f"--steer=blurs={pool / 'blurred'}", f"--steer=turned={pool / 'upside_down'}", "--top=3", "--choose=9",
        f"--output={tmp_path}",
    )  # fmt: skip
    done = run_program("transfer", *options)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("note: ") and "untrained" in line for line in done.stdout.splitlines())
    assert "9 of 14 images" in done.stdout and "blurs, turned" in done.stdout
    table = read(tmp_path / "similarities.csv")
    names = ["folder", "blurs", "turned"]
    assert list(table[0]) == ["kadis", *(c for n in names for c in (n, f"sim_value_{n}"))] and len(table) == 14
    assert all(row["blurs"].startswith("blurred-") for row in table)
    by = {name: sorted(table, key=lambda row, name=name: -float(row[f"sim_value_{name}"])) for name in names}
    union = {row["kadis"] for name in names[1:] for row in by[name][:3]}
    rest = [row["kadis"] for row in by["folder"] if row["kadis"] not in union]
    chosen = [row["source_image"] for row in read(tmp_path / "sources.csv")]
    assert chosen == [*sorted(union), *rest[: 9 - len(union)]]
    assert not json.loads((tmp_path / "saqt.json").read_text())["trained"]

    before = (tmp_path / "features_pictures.npz").stat().st_mtime_ns
    (tmp_path / "sources.csv").unlink()
    again = run_program("transfer", *options, "--labels=cell_mean")
    assert again.returncode == 0 and "0 shapes compiled" in again.stdout, again.stderr
    assert (tmp_path / "features_pictures.npz").stat().st_mtime_ns == before
    assert chosen == [row["source_image"] for row in read(tmp_path / "sources.csv")]
    options = (
        *dataset_flags(rated), f"--pictures={pool / 'left'}", "--top=3", "--choose=9",
        f"--matches={tmp_path / 'similarities.csv'}", f"--output={tmp_path / 'from_table'}",
    )  # fmt: skip
    from_table = run_program("transfer", *options)
    assert from_table.returncode == 2 and "--allow_untrained" in from_table.stderr  # also if it is read from a file
    from_table = run_program("transfer", *options, "--allow_untrained")
    assert from_table.returncode == 0, from_table.stderr
    assert chosen == [row["source_image"] for row in read(tmp_path / "from_table" / "sources.csv")]
    assert not json.loads((tmp_path / "from_table" / "saqt.json").read_text())["trained"]


def test_rendering_resumes(made, rated, pool, tmp_path):
    output, _ = made
    names = ["left/left-0.png", "blurred/blurred-9.png"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    small = run_program(
        "transfer", *dataset_flags(rated), f"--pictures={pool}", f"--matches={output / 'matches.csv'}",
        f"--list={tmp_path / 'list.txt'}", f"--output={tmp_path / 'two'}",
    )  # fmt: skip
    assert small.returncode == 0, small.stderr
    options = (f"--output={tmp_path / 'two'}", f"--render={tmp_path / 'bmp'}")
    done = run_program("transfer", *options, "--types=mean_shift")
    assert "10 images written" in done.stdout and done.returncode == 0, done.stderr
    files = sorted((tmp_path / "bmp/001").iterdir())
    assert [f.name for f in files] == [f"{n}_18_{i:02d}.bmp" for n in ("blurred-9", "left-0") for i in range(1, 6)]
    _, records = saqt.to_render(tmp_path / "two", "", [18])
    expected = distort_exact(whole(derived(reference(0), "left")), 18, 2, seed_of(records[1]))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "bmp/001/left-0_18_02.bmp")), expected)
    files[3].unlink()
    done = run_program("transfer", *options, "--types=18")
    assert "1 images written" in done.stdout and "9 existed" in done.stdout
    assert sorted((tmp_path / "bmp/001").iterdir()) == files


@pytest.mark.slow
def test_two_processes_write_the_same(made, rated, pool, checkpoint, tmp_path):
    """Each computes the features of its share and renders its share. A share that exists is reused."""
    output, _ = made
    whole_pool, twice = read_features(output / "features_pictures.npz"), tmp_path / "two"
    about = json.loads((output / "saqt.json").read_text())
    names = sorted([*whole_pool.names, "broken.png"])[1::2]  # the share of process 1, with one changed feature
    share = describe({name: pool / name for name in names}, SimpleNamespace(about=about["matches"]))
    features_ND = whole_pool.read()[[whole_pool.names.index(name) for name in names]]
    features_ND[-1] = np.eye(features_ND.shape[1])[5]
    twice.mkdir()
    write_features(twice / "features_pictures.2-of-2.npz", names, features_ND, share | {"refused": {}})
    arguments = [*dataset_flags(rated), f"--pictures={pool}", f"--checkpoint={checkpoint}", "--top_k=3"]
    arguments += [f"--output={twice}", f"--render={tmp_path / 'bmp'}", "--types=18"]
    with Hosts("transfer", arguments, 2, 2) as hosts:
        assert hosts.wait() == [3, 0], [hosts.output(i) for i in range(2)]
        assert "broken.png" in hosts.output(0) and "features" not in hosts.output(1)
        assert "350 images written" in hosts.output(0)
    ours = read_features(twice / "features_pictures.npz")
    assert ours.names == whole_pool.names and ours.about == whole_pool.about
    differs = np.abs(ours.read() - whole_pool.read()).max(1) > 1e-6
    assert [ours.names[i] for i in np.flatnonzero(differs)] == names[-1:]
    others = [[row for row in read(f / "sources.csv") if row["source_image"] != names[-1]] for f in (twice, output)]
    assert others[0] == others[1] and len(others[0]) == len(whole_pool.names) - 1
    assert len(list(tmp_path.glob("bmp/*/*.bmp"))) == 350 and not list(twice.glob("*-of-*"))


def test_refusals(made, rated, pool, tmp_path):
    output, _ = made
    make = [*dataset_flags(rated), f"--output={tmp_path / 'out'}"]
    (tmp_path / "list.txt").write_text("left/left-0.png\nnone.png\n")
    (tmp_path / "other.csv").write_text("kadis,tid2013,sim_value\nleft/left-0.png,I01.bmp,0.5\n")
    (tmp_path / "names.csv").write_text("kadis,folder,sim_value\nleft/left-0.png,I01.png,0.5\n")
    (tmp_path / "twins").mkdir()
    for name in ("a.png", "a.v2.png"):
        Image.fromarray(reference(0)[:64, :64]).save(tmp_path / "twins" / name)
    untrained = ["--backbone=test", "--allow_untrained"]
    cases = [
        ([], 2, "--output"),
        (["--output=x"], 2, "--dataset"),
        (make, 2, "--pictures"),
        ([*make, f"--pictures={pool}"], 2, "--checkpoint", "--allow_untrained"),
        ([*make, "--dataset=live"], 2, "--dataset=live", "kadid10k"),
        ([*make, f"--pictures={pool}", f"--checkpoint={pool}"], 4, pool),
        ([*make, f"--pictures={pool}", *untrained, f"--list={tmp_path / 'list.txt'}"], 3, "--list", "1 ", "none.png"),
        ([*make, f"--pictures={pool}", *untrained, f"--references={pool}"], 3, "--references", pool),
        ([*make, f"--pictures={pool}", *untrained, "--steer=folder=x"], 2, "--steer folder", "NAME=FOLDER"),
        ([*make, f"--pictures={tmp_path / 'twins'}", *untrained], 3, "a.png", "a.v2.png", "a_TT_LL"),
        ([*make, f"--matches={tmp_path / 'other.csv'}"], 3, "other.csv", "tid2013", "--dataset folder"),
        ([*make, f"--matches={tmp_path / 'names.csv'}"], 3, "names.csv", "1 ", "I01.png"),
        ([*make, f"--matches={tmp_path / 'names.csv'}", "--checkpoint=x"], 2, "--checkpoint", "--matches"),
        ([f"--output={tmp_path}", "--gallery=x.png"], 3, "saqt.json"),
        ([f"--output={output}", f"--render={tmp_path / 'r'}", "--types=jpg"], 2, '"jpg"', '"jpeg"'),
    ]
    check_refusals("transfer", cases)
