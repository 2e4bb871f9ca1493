"""The built-in dataset: crops of scikit-image's photographs, distorted like KADID-10k, with TRANSFERRED labels.

Nobody rated these images. The label of a crop with distortion type t at level l is the mean opinion score of
KADID-10k's 81 images at (t, l), whatever the crop shows. The dataset is for first trials and tests; the scores of
models trained on it mean little for real photographs.
"""

import collections
import importlib.resources
import os
from collections.abc import Sequence

from PIL import Image

from jaxiqa.datasets import default_data_dir
from jaxiqa.datasets.readers.kadid10k import DISTORTIONS
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError, read_code
from jaxiqa.files import writing

CITATION = "photographs: scikit-image (doi:10.7717/peerj.453); label means: KADID-10k (Lin, Hosu, Saupe, QoMEX 2019)"
LICENSE = (
    "LABELS ARE TRANSFERRED cell means of KADID-10k, not ratings of these images. Photographs, as scikit-image says: "
    "astronaut, hubble_deep_field (NASA), rocket (SpaceX): public domain; chelsea (S. van der Walt), coffee "
    "(R. Michetti), retina (M. Häggström): CC0; ihc (CMMI): no known restrictions; motorcycle: Middlebury 2014 stereo "
    "benchmark, no licence stated"
)
SCORE_RANGE = (1.0, 5.0)
HIGHER_IS_BETTER = True
HOW_TO_GET = "nothing to get: the photographs come with scikit-image (python -m pip install 'scikit-image>=0.25')"
MADE_HERE = True

HEIGHT, WIDTH = 384, 512  # of every reference crop: the size at which KADID-10k's images were rated

# Scene, photograph, and windows (left, top, width) of 4:3 in it. A window is enlarged at most 1.35 times.
_WINDOWS = (
    ("astronaut", "astronaut.png", [(0, 0, 512), (0, 128, 512), (104, 90, 400), (60, 212, 400)]),
    ("chelsea", "chelsea.png", [(0, 0, 400), (51, 0, 400), (0, 12, 384), (30, 6, 384)]),
    ("coffee", "coffee.png", [(0, 0, 532), (68, 0, 532), (0, 60, 440), (160, 30, 440)]),
    ("rocket", "rocket.jpg", [(0, 0, 568), (128, 0, 512), (40, 107, 420), (180, 20, 420)]),
    ("motorcycle", "motorcycle_left.png", [(0, 2, 664), (229, 116, 512)]),
    ("motorcycle", "motorcycle_right.png", [(77, 2, 664), (0, 116, 512)]),
    ("hubble_deep_field", "hubble_deep_field.jpg", [(0, 0, 1000)]),
    ("ihc", "ihc.png", [(0, 0, 512)]),
    ("retina", "retina.jpg", [(154, 60, 1100)]),
)
SCIENTIFIC = frozenset({"hubble_deep_field", "ihc", "retina"})  # only train: they differ too much from photographs

# Mean opinion score of KADID-10k's 81 images by type (rows 1..25) and level (columns 1..5), computed from the published
# scores. The means are not monotone in the level for types 5, 18 and 25.
KADID_MEANS = (
    (4.61, 4.38, 2.91, 1.87, 1.30),
    (3.86, 2.65, 1.76, 1.44, 1.30),
    (4.60, 4.10, 2.85, 2.18, 1.67),
    (4.50, 2.60, 1.76, 1.61, 1.39),
    (4.23, 2.55, 1.92, 1.85, 1.86),
    (4.11, 3.97, 3.72, 3.20, 2.42),
    (2.75, 2.33, 2.26, 2.24, 2.03),
    (4.58, 3.33, 2.65, 1.82, 1.52),
    (4.55, 4.20, 3.87, 2.44, 1.39),
    (4.34, 4.25, 3.87, 1.95, 1.35),
    (3.89, 3.39, 3.05, 2.71, 2.30),
    (4.47, 3.68, 3.17, 2.69, 2.38),
    (3.58, 2.93, 2.61, 2.31, 2.13),
    (4.40, 3.58, 3.08, 2.64, 2.12),
    (3.67, 2.73, 2.20, 1.65, 1.47),
    (4.51, 4.29, 3.63, 2.70, 1.81),
    (4.60, 4.53, 4.23, 3.53, 2.22),
    (4.22, 4.52, 4.60, 4.37, 3.90),
    (4.42, 4.09, 3.24, 1.85, 1.34),
    (4.33, 3.94, 3.77, 3.46, 3.26),
    (3.89, 3.10, 2.90, 2.79, 1.50),
    (4.17, 3.93, 3.69, 3.37, 2.80),
    (2.69, 2.36, 2.30, 2.13, 2.04),
    (3.58, 2.64, 2.14, 1.61, 1.34),
    (3.42, 3.86, 4.29, 4.14, 3.32),
)


def load(data_dir: str | os.PathLike = "", types: Sequence[int] = tuple(range(1, 26))) -> Dataset:
    """Writes the missing reference crops as PNG, and lists every crop at every (type, level).

    A record's `path` is the pristine crop (uint8 RGB of 384x512), and `apply` the (type, level) still to be applied to
    all of it. `reference` is the scene; several crops share it.

    Args:
      data_dir: the crops are written to its folder references/; "" is `default_data_dir("sample")`.
      types: KADID-10k's distortion types, 1..25.

    Raises:
      ConfigError: types are not one or more of 1..25.
      DataError: scikit-image lacks a photograph, or the folder cannot be written.
    """
    bad = [t for t in types if t not in range(1, len(DISTORTIONS) + 1)]
    if bad or not types:
        raise ConfigError(
            f"sample: types must be one or more numbers 1..{len(DISTORTIONS)}, not {list(types)!r}",
            code="value",
            key="types",
        )
    folder = os.path.join(os.path.expanduser(os.fspath(data_dir) or default_data_dir("sample")), "references")
    records: list[Record] = []
    crops: collections.Counter[str] = collections.Counter()
    for scene, photograph, windows in _WINDOWS:
        for window in windows:
            stem = f"{scene}_{crops[scene]}"
            crops[scene] += 1
            path = os.path.join(folder, f"{stem}.png")
            if not os.path.exists(path):
                _write_crop(photograph, window, path)
            for type_ in types:
                for level, mos in enumerate(KADID_MEANS[type_ - 1], 1):
                    name, id_ = DISTORTIONS[type_ - 1], f"{stem}_{type_:02d}_{level:02d}"
                    records.append(Record(path, mos, id_, scene, name, level, apply=(type_, level)))
    note = "its labels are transferred (the mean scores of KADID-10k by type and level): nobody rated these images"
    return Dataset("sample", records, SCORE_RANGE, HIGHER_IS_BETTER, train_only=SCIENTIFIC, note=note)


def _write_crop(photograph: str, window: tuple[int, int, int], path: str) -> None:
    left, top, width = window
    box = (left, top, left + width, top + width * HEIGHT // WIDTH)
    source = importlib.resources.files("skimage") / "data" / photograph
    try:
        with source.open("rb") as f:
            image = Image.open(f, formats=("PNG", "JPEG")).convert("RGB")
    except OSError as e:
        raise DataError(
            f"sample: cannot read scikit-image's {photograph} ({e}); {HOW_TO_GET}", code=read_code(e), key=photograph
        ) from e
    crop = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box, reducing_gap=None)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with writing(path) as file:  # another process may write the same crop at the same time
            crop.save(file, format="PNG", compress_level=1)  # the default level takes several times as long
    except OSError as e:
        raise DataError(
            f"sample: cannot write {path} ({e.strerror}); set data_dir or $JAXIQA_CACHE", code="unwritable", key=path
        ) from e
