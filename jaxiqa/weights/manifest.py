"""The manifest beside a converted checkpoint: where its weights come from and what became of every tensor."""

import collections
import json
import os

from etils import epath

import jaxiqa
from jaxiqa.errors import CheckpointError
from jaxiqa.models import create_model, find_model

FILE = "manifest.json"


def make_manifest(source: str | os.PathLike, sha256: str, name: str, variant: str, licence: str, coverage) -> dict:
    """What FILE holds; `coverage` as in weights.mapping.Imported."""
    model, module = create_model(name, variant), find_model(name)
    kinds = (row["ours"] if row["ours"] in ("carried", "ignored") else "mapped" for row in coverage)
    return {
        "source": {"file": os.path.basename(source), "sha256": sha256, "bytes": os.path.getsize(source)},
        "licence": licence,
        "paper": module.PAPER,
        "model": name,
        "variant": variant,
        "preprocessing": {
            "mean": module.MEAN,
            "std": module.STD,
            "crop_size": model.crop_size,
            "crops": module.TEST_CROPS,
        },
        "counts": {"mapped": 0, "carried": 0, "ignored": 0} | collections.Counter(kinds),
        "tensors": list(coverage),
        "jaxiqa": jaxiqa.__version__,
    }


def read_manifest(folder: epath.Path) -> dict:
    """The manifest in a converted checkpoint's folder; {} where there is none (a model trained here)."""
    path = epath.Path(folder) / FILE
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); convert the weights again") from error
