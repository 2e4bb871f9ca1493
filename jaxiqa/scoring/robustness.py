"""How stable a score is under changes that should not matter, and whether it falls as distortions get stronger."""

from collections.abc import Sequence

import numpy as np
from etils import epath
from tqdm import tqdm

from jaxiqa.figures.robustness import draw
from jaxiqa.files import write_json
from jaxiqa.inputs.changes import COUNT, HARMLESS, LEVELS, TYPES, versions
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.transforms import whole
from jaxiqa.scoring.scorer import Scorer

IMAGES = 12
_TOLERANCE = 0.5  # of 100: a smaller rise from one level to the next is none


def in_order(scores_N5: np.ndarray, chains: Sequence[Sequence[int]]) -> np.ndarray:
    """(N,) whether no level scores higher than the next weaker one. `chains` are those of a Distortion."""
    return np.all([(np.diff(scores_N5[:, list(chain)]) <= _TOLERANCE).all(1) for chain in chains], axis=0)


def measure(scorer: Scorer, paths: Sequence[str]) -> dict:
    """Scores all versions of some images at 384 x 512 pixels. The images should be undistorted.

    Returns:
      {"images": their number, "changes": a row for each harmless change, "types": a row for each type of distortion}.
      Changes are of the score, 0..100: the mean and the largest size, and the mean with its sign. "in_order" is the
      share of images whose score does not rise from a level to a stronger one, beginning with the clean image; "fall"
      is the mean of the clean score minus that of level 5.
    """
    scores = np.empty((len(paths), COUNT))
    for i, path in enumerate(tqdm(paths, "robustness", unit=" images", disable=None)):
        scores[i] = [found.score for found in scorer.scores(list(versions(whole(read_image(path)))))]
    return summarise(scores)


def summarise(scores_NV: np.ndarray) -> dict:
    """The result of measure() from the scores of all versions of N images, in the order of inputs.changes.versions."""
    clean = scores_NV[:, :1]
    change = scores_NV[:, 1 : 1 + len(HARMLESS)] - clean
    changes = [
        {
            "change": name,
            "mean_size": float(np.abs(c).mean()),
            "largest": float(np.abs(c).max()),
            "mean": float(c.mean()),
        }
        for name, c in zip(HARMLESS, change.T, strict=True)
    ]
    series = scores_NV[:, 1 + len(HARMLESS) :].reshape(len(scores_NV), len(TYPES), len(LEVELS))
    types = []
    for (name, chains), scores_N5 in zip(TYPES.items(), series.swapaxes(0, 1), strict=True):
        falls = in_order(scores_N5, chains)
        for weakest, *_ in chains:
            falls &= scores_N5[:, weakest] - clean[:, 0] <= _TOLERANCE
        fall = float((clean[:, 0] - scores_N5[:, -1]).mean())
        types.append({"type": name, "in_order": float(falls.mean()), "fall": fall})
    return {"images": len(scores_NV), "changes": changes, "types": types}


def write(folder: epath.Path, found: dict, title: str) -> str:
    """Writes robustness.json and robustness.png, and returns the table as text."""
    write_json(folder / "robustness.json", found)
    draw(folder / "robustness.png", found, title)
    lines = [f"change of score, 0 to 100, on {found['images']} images    mean size   largest      mean"]
    for row in found["changes"]:
        lines.append(f"  {row['change']:48}{row['mean_size']:9.2f} {row['largest']:9.2f} {row['mean']:+9.2f}")
    share = np.mean([row["in_order"] for row in found["types"]])
    lines.append(f"scores fall from weak to strong in {share:.0%} of the series of 25 types; least often for")
    worst = sorted(found["types"], key=lambda row: row["in_order"])[:5]
    lines.append("  " + ", ".join(f"{row['type']} {row['in_order']:.0%}" for row in worst))
    return "\n".join(lines)
