"""Fits the probe of the model that ships, which gives the reasons of its scores; and tests it on unseen photographs.

  python launch/ready_model/probe.py POOL [--photographs PHOTOGRAPHS --figure FILE] [--output jaxiqa/models/ready]

POOL is the folder that render.py and pack.py wrote. The probe is fitted to the statistics of the crops of the part
`train` that are undistorted or have one of the 25 types, and measured on those of the part `val`. It is written to
OUTPUT/compact/probe.npz, and a line about it to OUTPUT/CARD.md. It belongs to the weights in that folder: run this
again when they change. It takes about two minutes.

With the photographs (render.py), each of those of the part `test` is distorted by the 25 types at five levels, as whole
images. The program prints how many families are recognised, and draws the confusion matrix: rows are the types and
undistorted images, columns are the families.
"""

import argparse
import pathlib

import jax
import numpy as np
from fit import read_index, read_statistics
from render import find_photographs, opened, seeded, window
from tqdm import tqdm

from jaxiqa.distortions import DISTORTIONS, distort_exact, get_distortion
from jaxiqa.evaluation.probe import accuracy, confusion
from jaxiqa.figures.report import draw_confusion
from jaxiqa.files import write_bytes
from jaxiqa.inputs.probe_set import KIND_FAMILIES, KINDS
from jaxiqa.models import ready
from jaxiqa.scoring import explain, reasons
from jaxiqa.scoring.scorer import Scorer

SHARE, CLEAN, PENALTY = 0.2, 0.25, 1e-3  # of the crops; of undistorted ones among them; of the regression
OF = "crops of 84 photographs (launch/ready_model/photographs.csv), undistorted and with 25 distortions at five levels"
HEADING = "\n## Reasons\n\n"


def kinds(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Indices into KINDS, -1 for other distortions, and severities of the rows of index.csv."""
    label, severity = np.full(len(rows), -1), np.zeros(len(rows))
    for i, row in enumerate(rows):
        if not row["distortion"]:
            label[i] = 0
        elif row["distortion"] in KINDS:
            severity[i] = get_distortion(row["distortion"]).severity(int(row["level"]))
            label[i] = KINDS.index(row["distortion"]) if severity[i] else 0
    return label, severity


def chosen(label_N: np.ndarray, part_N: np.ndarray) -> np.ndarray:
    """Indices of the crops that are used: all of `val`, and a share of `train`, CLEAN of them undistorted."""
    rng = np.random.default_rng(0)
    some = np.flatnonzero((part_N == "train") & (label_N >= 0) & (rng.random(len(label_N)) < SHARE))
    clean, other = some[label_N[some] == 0], some[label_N[some] > 0]
    clean = rng.permutation(clean)[: round(CLEAN / (1 - CLEAN) * len(other))]
    return np.sort(np.concatenate([clean, other, np.flatnonzero((part_N == "val") & (label_N >= 0))]))


def fit(scorer: Scorer, pool: pathlib.Path):
    """The probe of the weights of `scorer`."""
    rows = read_index(pool)
    label, severity = kinds(rows)
    part = np.array([row["split"] for row in rows])
    used = chosen(label, part)
    values = read_statistics(pool, rows, scorer.model.crop_size)[used]
    taps = explain.taps_of(ready.MODEL)
    features = np.asarray(
        jax.jit(lambda v, x: explain.features(scorer.model.apply(v, x)[1], taps))(scorer.variables, values)
    )
    content = np.unique([rows[i]["content"] for i in used], return_inverse=True)[1]
    held_out = part[used] == "val"
    return reasons.fit_features(
        features, label[used], severity[used], content, held_out, taps, scorer.digest, OF, PENALTY
    )


def test(scorer: Scorer, photographs: pathlib.Path, figure: pathlib.Path | None) -> str:
    """How well families and severities of whole images are recognised, in a sentence; draws the confusion matrix."""
    rows = [row for row in find_photographs(photographs) if row["split"] == "test"]
    truth = [0] + [row.id if row.severity(level) else 0 for row in DISTORTIONS for level in range(1, 6)]
    strength = [0.0] + [row.severity(level) for row in DISTORTIONS for level in range(1, 6)]
    found = []
    for i, row in enumerate(tqdm(rows, "test", disable=None)):
        source = window(opened(row), seeded(row, 0))
        series = [distort_exact(source, t, lv, i, stretch=False) for t in range(1, 26) for lv in range(1, 6)]
        found.append([one.explanation for one in scorer.stream([source, *series])])
    values = np.array(found)  # (photographs, 126, families + 1)
    families = scorer.families
    predicted, label = values[..., :-1].argmax(2).ravel(), np.tile(truth, len(rows))
    family = np.array([families.index(name) for name in KIND_FAMILIES])
    counts = confusion(predicted, family[label], len(families))
    found_right = accuracy(counts)
    by_type = confusion(predicted, label, len(KINDS))[:, : len(families)]
    error = np.abs(values[..., -1].ravel() - np.tile(strength, len(rows)))
    right = (predicted == family[label]).reshape(len(rows), -1)
    level = np.array([0] + [lv for _ in DISTORTIONS for lv in range(1, 6)])
    text = (
        f"On {len(rows)} photographs that no training has seen, each undistorted and with 25 types at five levels, the "
        f"family is right for {found_right['accuracy']:.0%} of {len(label):,} whole images (mean of the families "
        f"{found_right['balanced_accuracy']:.0%}, by chance {1 / len(families):.0%}). {right[:, 0].sum()} of the "
        f"{len(rows)} undistorted ones are called pristine. The severity is off by {error.mean():.1f} of 5"
    )
    print("right by level 1 to 5: " + ", ".join(f"{right[:, level == lv].mean():.0%}" for lv in range(1, 6)))
    shares = counts.diagonal() / counts.sum(1)
    print("right by family: " + ", ".join(f"{name} {share:.0%}" for name, share in zip(families, shares, strict=True)))
    if figure:
        title = f"Reasons of {ready.MODEL}: mean of the families {found_right['balanced_accuracy']:.0%}"
        names = [f"{kind} ({of})" if kind != of else kind for kind, of in zip(KINDS, KIND_FAMILIES, strict=True)]
        draw_confusion(figure, by_type, names, title, families)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=pathlib.Path)
    parser.add_argument("--photographs", type=pathlib.Path, help="folder with the files of photographs.csv")
    parser.add_argument("--figure", type=pathlib.Path, help="PNG file to write")
    parser.add_argument("--output", type=pathlib.Path, default=ready.FOLDER.parent)
    args = parser.parse_args()
    folder = args.output / ready.MODEL
    probe = fit(Scorer(folder), args.pool)
    probe.save(folder / explain.FILE)
    lines = [explain.describe_probe(probe.about)]
    print(lines[0], flush=True)
    if args.photographs:
        lines.append(test(Scorer(folder, explain=True), args.photographs, args.figure))
        print(lines[1])
    card = args.output / "CARD.md"
    text = card.read_text(encoding="utf-8").split(HEADING)[0] + HEADING + "".join(f"{line}.\n" for line in lines)
    write_bytes(card, text.encode())


if __name__ == "__main__":
    main()
