"""A drawing of pictures beside the references that they are most like, so that a person can judge the similarity."""

import os

import numpy as np
from PIL import Image

from jaxiqa.datasets import saqt, saqt_files
from jaxiqa.errors import DataError
from jaxiqa.evaluation import report
from jaxiqa.inputs.decode import read_image


def draw_gallery(folder: str | os.PathLike, target: str, pairs: int = 24) -> None:
    """PNG of pictures beside their matches, evenly from the most to the least similar."""
    about = saqt.read_about(folder)
    (found,) = saqt_files.read_matches(os.path.join(folder, "matches.csv")).values()
    order = (-found.similarity).argsort(kind="stable").tolist()
    shown = [order[i * (len(order) - 1) // max(pairs - 1, 1)] for i in range(min(pairs, len(order)))]
    images, captions = [], []
    for i in dict.fromkeys(shown):
        if not found.reference_paths[i] or not about["pictures"]:
            raise DataError(f"{folder}: the matches are from a file, so the pictures are not known; compute them")
        for path in (os.path.join(about["pictures"], found.sources[i]), found.reference_paths[i]):
            image = Image.fromarray(read_image(path))
            image.thumbnail((300, 300))
            images.append(np.asarray(image))
        captions += [found.sources[i], f"{found.references[i]}, similarity {found.similarity[i]:.3f}"]
    title = f"{about['sources']:,} pictures, and the reference of {about['dataset']} that each is most like"
    if not about["trained"]:
        title += "\nthe network is untrained: this similarity has no meaning"
    report.contact_sheet(target, images, captions, title, 6)
