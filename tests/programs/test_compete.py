"""jaxiqa compete: scores from files and checkpoints, all files that it writes, refusals."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_run import check_refusals, run_many, run_program

import jaxiqa
from jaxiqa.competition import gmad
from jaxiqa.competition.judges import fidelity
from jaxiqa.evaluation.result_files import read_predictions


def read(path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def write_scores(path, folder, values, mos=None):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "score"] + ["mos"] * (mos is not None))
        for i, value in enumerate(values):
            rows.writerow([folder / f"{i}.png", value] + ([mos[i]] if mos is not None else []))
    return path


@pytest.fixture(scope="module")
def pool(pictures, tmp_path_factory):
    """The rated images with a reference for each content; the column ref holds its path."""
    folder = tmp_path_factory.mktemp("pool") / "rated"
    shutil.copytree(pictures, folder)
    (folder / "ref").mkdir()
    rng = np.random.default_rng(1)
    for i in range(5):
        Image.fromarray(rng.integers(100, 150, (70, 80, 3), np.uint8)).save(folder / "ref" / f"content{i}.png")
    header, *rows = read(folder / "index.csv")
    with open(folder / "index.csv", "w", newline="") as file:
        csv.writer(file).writerows([[*header, "ref"], *([*row, f"ref/{row[2]}.png"] for row in rows)])
    return folder


@pytest.fixture(scope="module")
def scorers(pool, tmp_path_factory):
    """Two files of scores of the pool, 0..100; the second also lists an image that is not in the pool."""
    folder, rng = tmp_path_factory.mktemp("scores"), np.random.default_rng(2)
    first, second = 100 * rng.random(15), 100 * rng.random(16)
    return write_scores(folder / "first.csv", pool, first), write_scores(folder / "second.csv", pool, second)


def columns(path) -> np.ndarray:
    return np.array([float(row[1]) for row in read(path)[1:]])


@pytest.fixture(scope="module")
def rated(pool, tmp_path_factory):
    """Predictions of both scorers for a set whose labels run from 5, the worst, to 1."""
    folder, rng = tmp_path_factory.mktemp("ratings"), np.random.default_rng(4)
    dmos = rng.uniform(1, 5, 60)
    return [
        write_scores(folder / f"{name}.csv", pool, 100 - 20 * dmos + rng.normal(0, 5, 60), dmos)
        for name in ("one", "two")
    ]


@pytest.fixture(scope="module")
def competitions(pool, scorers, rated, tmp_path_factory):
    """{alignment or oracle: (folder, standard output)} of competitions between the two files."""
    dataset = ["--dataset=folder", f"--data_dir={pool}", "--option=group_column=ref"]
    options = {
        "mos": ["--align=none", "--levels=4", "--tolerance=12", "--oracle=mos", *dataset],
        "none": ["--levels=1"],
        "psnr": ["--levels=2", "--oracle=psnr", *dataset],
        "ssim": ["--levels=2", "--oracle=ssim", *dataset],
        "logistic": [
            "--align=logistic",
            f"--align_on=one={rated[0]}",
            f"--align_on=two={rated[1]}",
            "--align_range=5,1",
        ],
    }
    folder = tmp_path_factory.mktemp("competitions")
    both = ["--scorers", f"one={scorers[0]}", f"two={scorers[1]}"]
    results = run_many("compete", [[*both, *more, "--output", folder / name] for name, more in options.items()])
    assert [code for code, *_ in results] == [0] * len(options), results
    return {name: (folder / name, out) for name, (_, out, _) in zip(options, results, strict=True)}


def test_files_judged_by_opinion_scores(competitions, scorers):
    folder, out = competitions["mos"]
    ids = [f"{i}.png" for i in range(15)]
    quality = {f"{i}.png": 100 * (3.5 - i % 3) / 4 for i in range(15)}
    one, two = columns(scorers[0]), columns(scorers[1])[:15]
    expected = gmad.gmad(one, two, ids, 4, 12.0, "none", oracle=quality, names=("one", "two"))
    pairs = json.loads((folder / "pairs.json").read_text())
    assert pairs == expected and len(pairs) == 8
    table = read(folder / "pairs.csv")
    assert table[0] == list(expected[0]) and [row[4] for row in table[1:]] == [pair["worst_id"] or "" for pair in pairs]
    aggressiveness, resistance = gmad.matrices(expected, ("one", "two"))
    for name, matrix in (("aggressiveness", aggressiveness), ("resistance", resistance)):
        rows = read(folder / f"{name}.csv")
        assert rows[0] == ["", "one", "two"] and [row[0] for row in rows[1:]] == ["one", "two"]
        np.testing.assert_allclose([[float(x) for x in row[1:]] for row in rows[1:]], matrix)
    header, *ranking = read(folder / "ranking.csv")
    assert header == ["model", "aggressiveness", "resistance"]
    np.testing.assert_allclose([float(row[1]) for row in ranking], gmad.rank(aggressiveness).scale, atol=1e-9)
    np.testing.assert_allclose([float(row[2]) for row in ranking], gmad.rank(resistance).scale, atol=1e-9)
    drawn = {f"{p['attacker']}_attacks_{p['defender']}_{p['level']}.png" for p in pairs if p["n_in_level"]}
    assert {path.name for path in folder.glob("*_attacks_*.png")} == drawn and len(drawn) > 4
    assert (folder / "matrices.png").stat().st_size > 1000
    about = json.loads((folder / "competition.json").read_text())
    assert (about["pictures"], about["oracle"], about["tolerance"]) == (15, "mos", 12)
    assert about["scorers"]["two"] == {"file": str(scorers[1])}
    assert "15 images compete\n" in out and "aggressiveness (attacker in rows" in out
    for verdict in {pair["verdict"] for pair in pairs}:
        assert verdict in out


def test_a_pair_is_drawn_whole(competitions):
    """The figure contains both images, pixel for pixel."""
    folder, _ = competitions["none"]
    pairs = json.loads((folder / "pairs.json").read_text())
    assert [list(pair)[-1] for pair in pairs] == ["n_in_level"] * 2 and not (folder / "matrices.png").exists()
    figure = np.asarray(Image.open(folder / "one_attacks_two_1.png").convert("RGB"))
    windows = np.lib.stride_tricks.sliding_window_view(figure[..., 0], (70, 80))
    for key in ("worst_id", "best_id"):
        picture = np.asarray(Image.open(pairs[0][key]))
        places = np.argwhere((windows[:, :, 0, 0] == picture[0, 0, 0]) & (windows[:, :, 69, 79] == picture[69, 79, 0]))
        assert sum((figure[y : y + 70, x : x + 80] == picture).all() for y, x in places) == 1


def test_a_checkpoint_and_an_image_that_cannot_be_read(trained, pool, scorers, tmp_path):
    """The pool is a folder. An image that a scorer cannot score is left out. The scores can be reused next time."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        shutil.copy(pool / f"{i}.png", folder)
    (folder / "0.png").write_bytes(b"")
    file = write_scores(tmp_path / "file.csv", folder, 100 * np.random.default_rng(3).random(12))
    done = run_program(
        "compete", f"file={file}", f"net={trained[0]}", "--pool", folder, "--levels=3", "--output", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "11 images compete; 1 " in done.stdout
    scores = dict(read(tmp_path / "out" / "scores_net.csv")[1:])
    assert len(scores) == 12 and scores[str(folder / "0.png")] == ""
    metric = jaxiqa.create_metric(checkpoint=trained[0])
    path = str(folder / "5.png")
    assert float(scores[path]) == pytest.approx(metric(path), abs=1e-4)
    about = json.loads((tmp_path / "out" / "competition.json").read_text())["scorers"]["net"]
    assert about["model"]["name"] == "cnniqa" and about["crops"] == "grid" and about["trained_on"] == "folder"
    pairs = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert len(pairs) == 6 and all(pair["n_in_level"] for pair in pairs)
    assert not any(str(folder / "0.png") in (pair["worst_id"], pair["best_id"]) for pair in pairs)
    again = read_predictions(str(tmp_path / "out" / "scores_net.csv"))
    assert np.isnan(again.score[again.paths.index(str(folder / "0.png"))])
    assert again.score[again.paths.index(path)] == float(scores[path])


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_judged_by_the_reference(competitions, pool, metric):
    """The preference is the difference of the two images' similarity to the references that the column ref names."""
    pairs = json.loads((competitions[metric][0] / "pairs.json").read_text())

    def quality(id_):
        image, reference = (pool / id_, pool / "ref" / f"content{int(id_[:-4]) // 3}.png")
        return fidelity(np.asarray(Image.open(image)), np.asarray(Image.open(reference)), metric)

    expected = [quality(pair["best_id"]) - quality(pair["worst_id"]) for pair in pairs]
    assert [pair["preference"] for pair in pairs] == pytest.approx(expected) and all(expected)
    assert {pair["verdict"] for pair in pairs} <= {"succeeds", "resisted", "backfires"}


def test_logistic_alignment(competitions, pool, scorers, rated):
    pairs = json.loads((competitions["logistic"][0] / "pairs.json").read_text())
    dmos = np.array([float(row[2]) for row in read(rated[0])[1:]])
    one, two = columns(scorers[0]), columns(scorers[1])[:15]
    paths = [str(pool / f"{i}.png") for i in range(15)]
    both = (columns(rated[0]), columns(rated[1]), 25 * (5 - dmos))
    assert pairs == gmad.gmad(one, two, paths, align="logistic", rated=both, names=("one", "two"))


def test_refusals(pool, scorers, tmp_path):
    one, two = (f"{name}={path}" for name, path in zip(("one", "two"), scorers, strict=True))
    out = f"--output={tmp_path / 'out'}"
    short = f"short={write_scores(tmp_path / 'short.csv', pool, range(9))}"
    empty = f"empty={write_scores(tmp_path / 'empty.csv', pool, [''] * 15)}"
    falling = write_scores(tmp_path / "falling.csv", pool, range(15), range(15))
    logistic = [one, two, out, "--align=logistic", f"--align_on=one={falling}", f"--align_on=two={falling}"]
    cases = [
        ([one], 2, "--scorers NAME=PATH --scorers NAME=PATH"),
        ([one, str(scorers[1])], 2, f"--scorers {scorers[1]}", "NAME=PATH"),
        ([one, "a/b=x.csv"], 2, "--scorers a/b=x.csv", "letters"),
        ([one, one, out], 2, "--scorers", '"one"'),
        ([one, two], 2, "--output"),
        ([one, two, out, "--oracle=mos"], 2, "--oracle mos", "--dataset"),
        ([one, two, out, "--align=logistic"], 2, "--align_on NAME=CSV", "one, two"),
        (logistic, 2, "--align_range=WORST,BEST"),
        ([*logistic, "--align_range=14,0"], 3, "one: "),
        ([one, "two=none.csv", out], 3, "none.csv", "No such file or directory"),
        ([one, "two=none", out], 4, "none"),
        (["one=none", "two=none", out], 2, "--pool"),
        ([one, short, out], 3, "short.csv", "6", "15 images"),
        ([one, empty, out], 3, "empty: ", "15 images"),
        ([one, two, out, f"--pool={tmp_path / 'none'}"], 3, tmp_path / "none"),
        ([two, one, out, "--dataset=folder", f"--data_dir={pool}"], 3, "--dataset folder", "1", "16 images"),
        ([one, two, "--output=/proc/none"], 2, "--output /proc/none"),
        ([one, two, out, "--dataset=folder", f"--data_dir={pool}", "--oracle=psnr"], 3, "reference", "psnr"),
        ([one, two, out, "--dataset=folder", "--option=csv"], 2, "--option", "csv", "KEY=VALUE"),
    ]
    check_refusals("compete", cases)
