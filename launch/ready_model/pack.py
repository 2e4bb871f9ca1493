"""Trains the model that ships for several seeds, and packs the one with the most validation series in order of level.

  python launch/ready_model/pack.py POOL [--seeds 0 1 2] [--output jaxiqa/models/ready]

POOL is the folder that render.py wrote. OUTPUT receives compact/ (the checkpoint) and CARD.md, and POOL/seedN the
checkpoint of each seed. The reference of the percentiles are the scores of all crops of POOL that have a score.
"""

import argparse
import csv
import dataclasses
import pathlib
import shutil

import numpy as np
from fit import fit, read_index, read_statistics, scores_of

from jaxiqa.files import write_bytes
from jaxiqa.models import create_model, ready
from jaxiqa.runs.checkpoint import Saved, save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.scoring.card import Card

MODEL = {"name": ready.MODEL, "variant": "s195"}
CROPS = "auto:25"
DATASET = (
    "distorted crops of 70 free photographs (launch/ready_model/photographs.csv: CC0, public domain, Unsplash, CC BY) "
    "with scores transferred from KADID-10k's means of each distortion and level"
)
NOTE = (
    "trained on synthetic distortions of photographs: not for judging faces, art, AI-generated images, composition or "
    "exposure; sharp noise may score too high and a deliberate blur too low"
)
OF = "98,280 crops of the 84 training and validation photographs, a sixth undistorted, the others distorted"
CARD = """# Card of the weights that come with jaxiqa

* Model: {model}
* Crops: {crops}
* Licence: Apache-2.0. Photographs under CC BY: {authors} (Lomiri wallpapers 16.04)
* SHA-256 of the arrays: {digest}

## Trained on

{dataset}. Nobody rated these images.

## Note

{note}.

## Percentiles

The percentage of images with a lower score, of {of}.

The manual's page "The model that ships" has the measured numbers.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=pathlib.Path, default=ready.FOLDER.parent)
    args = parser.parse_args()
    model = create_model(ready.MODEL, eval_bn=("normalise",))  # the moments are those of all training crops
    rows = read_index(args.pool)
    values = read_statistics(args.pool, rows, model.crop_size)
    rated = [row["mos"] != "" for row in rows]
    card, best = Card(MODEL, "float32", "score01", DATASET, None, CROPS, note=NOTE), -1.0
    for seed in args.seeds:
        state, agreement, falls = fit(model, values, rows, seed)
        quantiles = np.percentile(scores_of(model, state, values[rated]), np.arange(101))
        described = dataclasses.replace(card, reference={"of": OF, "quantiles": np.round(quantiles, 4).tolist()})
        write(args.pool / f"seed{seed}", state, described)
        print(f"seed {seed}: validation srcc {agreement:.4f}, {falls:.4f} of the series in order", flush=True)
        if falls > best:
            best, chosen = falls, seed
            write(folder := args.output / ready.MODEL, state, described)
    with open(pathlib.Path(__file__).with_name("photographs.csv"), newline="", encoding="utf-8") as file:
        authors = sorted({row["author"] for row in csv.DictReader(file) if row["licence"].startswith("CC-BY")})
    text = CARD.format(
        model=" ".join(MODEL.values()),
        crops=CROPS,
        authors=", ".join(authors),
        digest=Saved(folder).digest(),
        dataset=DATASET,
        note=NOTE,
        of=OF,
    )
    write_bytes(args.output / "CARD.md", text.encode())
    print(f"seed {chosen} is packed in {folder}")


def write(folder: pathlib.Path, state: dict, card: Card) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    save_once(folder, state, CheckpointMeta(card=card.to_dict()))
    for mark in folder.rglob("commit_success.txt"):  # Orbax writes the path of this machine into it
        mark.write_text("Checkpoint commit was successful\n")


if __name__ == "__main__":
    main()
