"""A dataset: a folder with ratings.csv, whose columns are image, mos (1..5), std and scene."""

import csv
import os

from jaxiqa.datasets import Dataset, Record
from jaxiqa.errors import DataError

CITATION = "none: your own ratings"
LICENSE = "yours"
HOW_TO_GET = "put the images and ratings.csv into one folder, and set config.dataset.data_dir to it"
SCORE_RANGE = (1.0, 5.0)
HIGHER_IS_BETTER = True


def load(data_dir: str | os.PathLike) -> Dataset:
    """Reads the dataset; splits keep the images of one scene together.

    Raises DataError if ratings.csv cannot be read.
    """
    path = os.path.join(data_dir, "ratings.csv")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            records = [
                Record(
                    path=os.path.join(data_dir, row["image"]),
                    mos=float(row["mos"]),
                    id=row["image"],
                    reference=row["scene"],
                    std=float(row["std"]),
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError) as error:
        code = "not_found" if isinstance(error, FileNotFoundError) else "format"
        what = f"{path} cannot be read ({type(error).__name__}: {error}); {HOW_TO_GET}"
        raise DataError(what, code=code, key=path) from error
    return Dataset("own_ratings", records, SCORE_RANGE, HIGHER_IS_BETTER)
