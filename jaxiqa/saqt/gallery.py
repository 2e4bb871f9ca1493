"""A figure of images beside the references that they match best, so that a person can judge the similarity."""

import os

import numpy as np
from PIL import Image

from jaxiqa.datasets.formats import saqt_files
from jaxiqa.datasets.readers import saqt
from jaxiqa.errors import DataError
from jaxiqa.figures import report
from jaxiqa.inputs.decode import read_image


def draw_gallery(folder: str | os.PathLike, target: str, pairs: int = 24) -> None:
    """Draws images beside their matches, evenly from the most to the least similar, as PNG.

    Args:
      folder: transferred labels, as jaxiqa transfer writes them.
      target: the file to write.
      pairs: number of images.

    Raises:
      DataError: the matches were read from a file, so the paths of the images are not known.
    """
    about = saqt.read_about(folder)
    (found,) = saqt_files.read_matches(os.path.join(folder, "matches.csv")).values()
    order = (-found.similarity).argsort(kind="stable").tolist()
    shown = [order[i * (len(order) - 1) // max(pairs - 1, 1)] for i in range(min(pairs, len(order)))]
    images, captions = [], []
    for i in dict.fromkeys(shown):
        if not found.reference_paths[i] or not about["pictures"]:
            raise DataError(
                f"{folder}: the matches are from a file, so the paths of the images are not known; compute the matches",
                code="missing",
                key=folder,
            )
        for path in (os.path.join(about["pictures"], found.sources[i]), found.reference_paths[i]):
            image = Image.fromarray(read_image(path))
            image.thumbnail((300, 300))
            images.append(np.asarray(image))
        captions += [found.sources[i], f"{found.references[i]}, similarity {found.similarity[i]:.3f}"]
    title = f"{about['sources']:,} images, each beside the most similar reference of {about['dataset']}"
    if not about["trained"]:
        title += "\nthe network is untrained: the similarity has no meaning"
    report.contact_sheet(target, images, captions, title, 6)
