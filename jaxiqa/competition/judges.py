"""Oracles that judge in place of people: opinion scores of a rated pool, or a full-reference metric, on 0..100."""

import os
from collections.abc import Sequence

import numpy as np
from skimage import metrics

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_image
from jaxiqa.inputs.image_paths import by_stem

ORACLES = ("none", "mos", "psnr", "ssim")
PSNR_RANGE = (10.0, 50.0)  # the PSNRs in dB that become 0 and 100


def opinion(records: Sequence[Record], dataset: Dataset) -> list[float]:
    """The opinion scores of records, 0..100 over the scale of their dataset, higher is better.

    Raises:
      DataError: the dataset has no opinion scores.
    """
    scores = [float(100 * dataset.scale.to_score01(record.mos)) for record in records]
    if np.isnan(scores).any():
        raise DataError(
            f"{dataset.name} has no opinion scores; use --oracle psnr, ssim or none",
            code="missing",
            key=dataset.name,
        )
    return scores


def fidelity(image_HWC: np.ndarray, reference_HWC: np.ndarray, metric: str) -> float:
    """The similarity of an image to its reference, 0..100.

    psnr   100 (PSNR - 10) / 40, clipped: 0 at 10 dB and below, 100 at 50 dB and above, and for equal images
    ssim   100 SSIM, negative values: 0; Gaussian window of sigma 1.5, mean of R, G, B (Wang et al., IEEE TIP 13, 2004)

    Args:
      image_HWC, reference_HWC: uint8 (H, W, 3), of the same size.
      metric: "psnr" or "ssim".
    """
    if metric == "ssim":
        ssim = metrics.structural_similarity(
            reference_HWC,
            image_HWC,
            channel_axis=2,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        return float(np.clip(100 * ssim, 0, 100))
    if np.array_equal(image_HWC, reference_HWC):
        return 100.0
    low, high = PSNR_RANGE
    psnr = metrics.peak_signal_noise_ratio(reference_HWC, image_HWC, data_range=255)
    return float(np.clip(100 * (psnr - low) / (high - low), 0, 100))


def fidelities(records: Sequence[Record], folder: str, metric: str) -> list[float]:
    """The `fidelity` of each record's image to its reference image in the dataset's folder.

    The record's `reference` is a path below the folder (such as ref/a.png), or the name without extension of exactly
    one image anywhere below it (I01 finds reference_images/I01.BMP).

    Args:
      records: of one dataset.
      folder: its data_dir.
      metric: "psnr" or "ssim".

    Raises:
      DataError: a record names no reference, the reference is not found or found twice, or it has another size.
    """
    folder, named, found = os.path.expanduser(folder), None, []
    for record in records:
        path = os.path.join(folder, record.reference)
        if not record.reference:
            raise DataError(
                f"{record.id} names no reference image, which {metric} needs; use --oracle mos or none",
                code="missing",
                key=record.id,
            )
        if not os.path.isfile(path):
            named = by_stem(folder) if named is None else named
            candidates = named.get(record.reference.lower(), [])
            if len(candidates) != 1:
                held = "no image" if not candidates else " and ".join(candidates[:2])
                raise DataError(
                    f"{record.id}: its reference {record.reference!r} must match one image in {folder}, but matches "
                    f"{held}; a reference is a file name without extension, or a path in the folder (for --dataset "
                    "folder: --option group_column=COLUMN with such values)",
                    code="not_found",
                    key=record.id,
                )
            path = candidates[0]
        image, reference = read_image(record.path), read_image(path)
        if image.shape != reference.shape:
            sizes = " and ".join(f"{x.shape[1]} x {x.shape[0]}" for x in (image, reference))
            raise DataError(
                f"{record.path} and its reference {path} have different sizes ({sizes})",
                code="mismatch",
                key=record.path,
            )
        found.append(fidelity(image, reference, metric))
    return found
