"""Packs the best of several runs of configs/compact_ready.py as the checkpoint that comes with jaxiqa.

  python launch/ready_model/pack.py POOL RUN... [--output jaxiqa/models/ready]

POOL is the folder that render.py wrote; each RUN is the workdir of a run on it. The run with the highest SRCC on the
validation photographs is taken. OUTPUT receives compact/ (the checkpoint) and CARD.md. The reference of the percentiles
are the scores of all crops of POOL.
"""

import argparse
import csv
import dataclasses
import pathlib
import shutil

import jax
import numpy as np
from etils import epath

from jaxiqa.files import write_bytes
from jaxiqa.models import ready
from jaxiqa.runs.checkpoint import Saved, save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.runs.saved_steps import find_steps
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.scorer import Scorer
from jaxiqa.training.state import scoring_variables

CROPS = "auto:25"
DATASET = (
    "distorted crops of 102 free photographs (launch/ready_model/photographs.csv: CC0, public domain, Unsplash, CC BY) "
    "with scores transferred from KADID-10k's means of each distortion and level"
)
NOTE = (
    "trained on synthetic distortions of photographs: not for judging faces, art, AI-generated images, composition or "
    "exposure; sharp noise may score too high and a deliberate blur too low"
)
OF = "105,120 crops of these photographs, a fifth undistorted, the others with rendered distortions of all strengths"
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
    parser.add_argument("runs", type=pathlib.Path, nargs="+")
    parser.add_argument("--output", type=pathlib.Path, default=ready.FOLDER.parent)
    args = parser.parse_args()
    best = {
        run: max(step.metric for step in find_steps(epath.Path(run)) if step.metric is not None) for run in args.runs
    }
    print(*(f"{run}: validation srcc {metric:.4f}" for run, metric in best.items()), sep="\n")
    run = max(best, key=best.get)
    saved = Saved(run)
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = scoring_variables(**saved.load(("params", "batch_stats", "ema"), where))
    state = jax.tree.map(lambda x: np.asarray(x, np.float32), state)
    trained = Card.from_dict(saved.meta.card, run)
    model = {"name": trained.model["name"], "variant": trained.model["variant"]}  # with its own size of crops
    card = dataclasses.replace(
        trained, model=model, labels="score01", dataset=DATASET, scale=None, crops=CROPS, note=NOTE
    )
    folder = args.output / ready.MODEL
    write(folder, state, card)
    paths = sorted((args.pool / "images").glob("*.png"))
    scores = [found.score / 100 for found in Scorer(folder).scores([str(path) for path in paths])]
    quantiles = np.round(np.percentile(scores, np.arange(101)), 4).tolist()
    write(folder, state, dataclasses.replace(card, reference={"of": OF, "quantiles": quantiles}))
    with open(pathlib.Path(__file__).with_name("photographs.csv"), newline="", encoding="utf-8") as file:
        authors = sorted({row["author"] for row in csv.DictReader(file) if row["licence"].startswith("CC-BY")})
    text = CARD.format(
        model=" ".join(model.values()),
        crops=CROPS,
        authors=", ".join(authors),
        digest=Saved(folder).digest(),
        dataset=DATASET,
        note=NOTE,
        of=OF,
    )
    write_bytes(args.output / "CARD.md", text.encode())
    print(f"{run} is packed in {folder}; {len(paths)} crops were scored for the percentiles")


def write(folder: pathlib.Path, state: dict, card: Card) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    save_once(folder, state, CheckpointMeta(card=card.to_dict()))
    for mark in folder.rglob("commit_success.txt"):  # Orbax writes the path of this machine into it
        mark.write_text("Checkpoint commit was successful\n")


if __name__ == "__main__":
    main()
