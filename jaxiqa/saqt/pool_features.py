"""Features of a pool of images, computed by several processes, each for its share of the pool."""

import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxiqa.runs.processes import from_first, is_first, meet
from jaxiqa.saqt.feature_file import FeatureFile, read_features, write_features
from jaxiqa.saqt.features import Extractor, current_features, describe, features_of
from jaxiqa.scoring.process_shares import own_share


def features_of_shares(images: Mapping[str, str], file: str, extractor: Extractor, title: str) -> FeatureFile:
    """Returns features_of(...) on all processes; all of them must call this.

    Every process writes the features of its share beside `file`, in a folder that all processes share. A restart with
    the same number of processes reads a complete share and does not compute it again.

    Args:
      images, file, title: as in features_of, the same on all processes.
      extractor: on the devices of this process (sharding.local_mesh).
    """
    count = jax.process_count()
    if count == 1:
        return features_of(images, file, extractor, title)
    about, names = describe(images, extractor), list(images)
    if not from_first(current_features(file, about) is not None):
        files = [f"{os.path.splitext(file)[0]}.{i + 1}-of-{count}.npz" for i in range(count)]
        mine = {name: images[name] for name in names[own_share()]}
        features_of(mine, files[jax.process_index()], extractor, title)
        meet()
        if is_first():
            _join([read_features(share) for share in files], names, file, about)
            for share in files:
                os.remove(share)
        meet()
    return read_features(file)


def _join(shares: Sequence[FeatureFile], names: Sequence[str], file: str, about: dict) -> None:
    """Joins the files of the shares into the file that features_of() would write."""
    shares_ND = [share.read() for share in shares if share.names]
    row_of = {name: row for row, name in enumerate(name for share in shares for name in share.names)}
    usable = [name for name in names if name in row_of]
    features_ND = np.concatenate(shares_ND)[[row_of[name] for name in usable]] if usable else np.zeros((0, 1))
    refused = {name: why for share in shares for name, why in share.about["refused"].items()}
    write_features(file, usable, features_ND, about | {"refused": {n: refused[n] for n in names if n in refused}})
