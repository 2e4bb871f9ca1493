"""The published labels of every dataset, from the label files in the folder of the fixture `shared`."""

import csv
import pathlib

import pytest
from reader_trees import Row

owners_only = pytest.mark.parametrize("labels", ["owners"], indirect=True)  # for tests of single published labels


def table(path):
    with open(path) as f:
        return list(csv.DictReader(f))


def words(path):
    return [line.split() for line in path.read_text().splitlines()]


def kadid10k(labels):
    lines = words(labels / "VisualQuality-R1/KADID-10K_mos.txt")
    return [Row(name, float(mos), reference.removesuffix(".png"), int(name[7:9]), float(std))
            for reference, name, mos, std in lines]  # fmt: skip


def koniq10k(labels):
    rows = []
    for r in table(labels / "koniq/koniq10k_distributions_sets.csv"):
        votes = tuple(round(float(r[f"c{score}"]) * int(r["c_total"])) for score in range(1, 6))
        rows.append(Row(r["image_name"], float(r["MOS"]), std=float(r["SD"]), votes=votes, part=r["set"]))
    return rows


def tid2013(labels, listed="TID2013"):
    rows = []
    for r in table(labels / f"icbcbicc_IQA-Dataset/{listed}.txt"):
        name = pathlib.PurePath(r["dis_img_path"]).name
        rows.append(Row(name, float(r["score"]), f"I{name[1:3]}", int(name[7])))
    return rows


def tid2008(labels):
    return tid2013(labels, "TID2008")


def csiq(labels):
    rows = []
    for name, mos in words(labels / "hyperIQA/csiq_label.txt"):
        reference, _, level, _ = name.split(".")
        rows.append(Row(name, float(mos), reference, int(level)))
    return rows


def livec(labels):
    """The seven practice images come first."""
    mos = {name: score for name, score, _ in words(labels / "LIQE/clive_all.txt")}
    listed = words(labels / "VisualQuality-R1/LIVEC_test_all.txt")
    return [Row(name, float(mos.get(f"Images/{name}", score)), std=float(std)) for name, score, std in listed]


def live(labels):
    std = {name: float(std) for name, _, std in words(labels / "LIQE/live_all.txt")}
    rows = []
    for r in table(labels / "icbcbicc_IQA-Dataset/LIVE.txt"):
        name = r["dis_img_path"].removeprefix("LIVE/")
        rows.append(Row(name, float(r["score"]), pathlib.PurePath(r["ref_img_path"]).stem, std=std[name]))
    return rows


def spaq(labels):
    listed = table(labels / "icbcbicc_IQA-Dataset/SPAQ.txt")
    return [Row(pathlib.PurePath(r["dis_img_path"]).name, float(r["score"])) for r in listed]


def flive(labels):
    return [Row(r["name"], float(r["mos"])) for r in table(labels / "FLIVE/labels_image.csv")]


def bid(labels):
    """From a list of scores that are scaled to 0..100 by their minimum and maximum."""
    lowest, highest = 0.163805726, 4.919752378
    listed = sorted(words(labels / "VisualQuality-R1/BID_test_all.txt"))
    return [Row(name, round(lowest + float(scaled) / 100 * (highest - lowest), 9)) for name, scaled in listed]


def cid2013(labels):
    rows = []
    for r in table(labels / "icbcbicc_IQA-Dataset/CID2013.txt"):
        name = r["dis_img_path"].removeprefix("CID2013/")
        rows.append(Row(name, float(r["score"]), name.split("/")[-1][:-8]))
    return rows


def agiqa3k(labels):
    return [
        Row(r["name"], float(r["mos_quality"]), r["prompt"], std=float(r["std_quality"]))
        for r in table(labels / "AGIQA-3k/data.csv")
    ]


def pipal(labels):
    lines = words(labels / "MANIQA/pipal22_train.txt")
    return [Row(name.rstrip(","), float(mos), name.split("_")[0]) for name, mos in lines]


def livemd(labels):
    rows = []
    for r in table(labels / "icbcbicc_IQA-Dataset/LIVE_MD.txt"):
        *_, part, folder, name = r["dis_img_path"].split("/")
        version = name.removesuffix(".bmp").split("_")[1:]
        level = int(version[0][-1]) if len(version) == 1 else 0
        path = f"{part.replace('_', ' ')}/{folder}/{name}"
        rows.append(Row(path, float(r["score"]), pathlib.PurePath(r["ref_img_path"]).stem, level))
    return rows
