"""Full-size trees in the owners' layout: real label values, empty picture files (the readers decode none)."""

import csv

import numpy as np
import pytest
import scipy.io


def write_tree(root, texts, pictures):
    """Files with text, and empty files, below `root`; all names are relative to it."""
    for folder in {(root / name).parent for name in [*texts, *pictures]}:
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (root / name).write_text(text)
    for name in pictures:
        (root / name).touch()


def table(path):
    with open(path) as f:
        return list(csv.DictReader(f))


def kadid10k(root, labels):
    rows = [line.split() for line in (labels / "VisualQuality-R1/KADID-10K_mos.txt").read_text().splitlines()]
    lines = ["dist_img,ref_img,dmos,var"]
    lines += [f"{name},{ref},{dmos},{float(std) ** 2:.3f}" for ref, name, dmos, std in rows]
    pictures = {f"images/{name}" for _, name, *_ in rows} | {f"images/{ref}" for ref, *_ in rows}
    write_tree(root, {"dmos.csv": "\n".join(lines) + "\n"}, pictures)


def koniq10k(root, labels):
    sets = (labels / "koniq/koniq10k_distributions_sets.csv").read_text()
    zscore = {row["image_name"]: row["MOS"] for row in csv.DictReader(sets.splitlines())}
    lines = ["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore"]
    for row in table(labels / "icbcbicc_IQA-Dataset/KonIQ-10k.txt"):
        name = row["dis_img_path"].split("/")[-1]
        lines.append(f"{name},0,0,1,0,0,100,{row['score']},0.5,{zscore[name]}")
    texts = {"koniq10k_distributions_sets.csv": sets, "koniq10k_scores_and_distributions.csv": "\n".join(lines)}
    write_tree(root, texts, [f"512x384/{name}" for name in zscore])


def tid2013(root, labels):
    """With the archive's mixture of cases, and another mixture in the list."""
    lines, pictures = [], []
    for row in table(labels / "icbcbicc_IQA-Dataset/TID2013.txt"):
        name = row["dis_img_path"].split("/")[-1]
        reference, type_, _ = name[1:].split("_")
        lines.append(f"{row['score']} {'I' if reference != '25' and int(type_) % 2 else 'i'}{name[1:]}")
        pictures.append(f"distorted_images/{'i' if reference in ('01', '25') else 'I'}{name[1:]}")
        if reference == "07":
            pictures[-1] = pictures[-1].replace(".bmp", ".BMP")
    write_tree(root, {"mos_with_names.txt": "\n".join(lines)}, pictures)


def csiq(root, labels):
    text = (labels / "hyperIQA/csiq_label.txt").read_text()
    names = [line.split()[0] for line in text.splitlines()]
    write_tree(root, {"csiq_label.txt": text}, [f"dst_imgs/{n.split('.')[1].lower()}/{n}" for n in names])


def livec(root, labels):
    mos = dict(line.split()[:2] for line in (labels / "LIQE/clive_all.txt").read_text().splitlines())
    listed = [line.split() for line in (labels / "VisualQuality-R1/LIVEC_test_all.txt").read_text().splitlines()]
    names = [name for name, *_ in listed]
    scores = [float(mos.get(f"Images/{name}", score)) for name, score, _ in listed]
    write_tree(root, {}, [f"Images/{n}" for n in names[7:]] + [f"Images/trainingImages/{n}" for n in names[:7]])
    write_livec_labels(root, names, scores)


def cells(texts):
    """A MATLAB cell array of strings."""
    return np.array([*(np.array([t]) for t in texts), None], object)[:-1]


def write_livec_labels(root, names, scores):
    (root / "Data").mkdir(exist_ok=True)
    scipy.io.savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells(names)[:, None]})
    scipy.io.savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": np.array(scores)[None]})


def live(root, labels):
    rated = {r["dis_img_path"].removeprefix("LIVE/"): r for r in table(labels / "icbcbicc_IQA-Dataset/LIVE.txt")}
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    names = [f"{folder}/img{i}.bmp" for folder, count in counts.items() for i in range(1, count + 1)]
    orgs = np.array([name not in rated for name in names])
    references = [rated[n]["ref_img_path"].split("/")[-1] if n in rated else "bikes.bmp" for n in names]
    scores = np.array([float(rated[n]["score"]) if n in rated else 0.0 for n in names])
    write_tree(root, {}, names)
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": cells(references)[None]})
    realigned = {"dmos_new": scores[None], "dmos_std": scores[None], "orgs": orgs[None].astype(np.uint8)}
    scipy.io.savemat(root / "dmos_realigned.mat", realigned)
    scipy.io.savemat(root / "dmos.mat", {"dmos": scores[None] / 2, "orgs": realigned["orgs"]})


TREES = {f.__name__: f for f in (kadid10k, koniq10k, tid2013, csiq, livec, live)}


@pytest.fixture
def tree(shared, tmp_path_factory):
    """tree("kadid10k") is the folder of that dataset, written once; tests that change it use a copy or put it back."""

    def get(name):
        root = tmp_path_factory.getbasetemp() / name
        if not root.exists():
            root.mkdir()
            TREES[name](root, shared / "data/labels")
        return root

    return get


@pytest.fixture
def livec_labels():
    """livec_labels(root, names, scores) writes Data/*.mat of LIVE Challenge."""
    return write_livec_labels
