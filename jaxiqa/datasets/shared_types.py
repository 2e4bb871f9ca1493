"""Which of KADID-10k's distortions other datasets have too, so that their labels fit pictures distorted here."""

from jaxiqa.datasets.kadid10k import DISTORTIONS
from jaxiqa.errors import ConfigError

# Level for level: the strength rises with the level in both, but is not the same. Left out are distortions that
# KADID-10k has not (other noises, transmission errors), and those whose levels mean something else there: of mean shift
# and contrast change KADID-10k's third levels are the mildest, and TID2013's local blocks do less harm at high levels.
_TID2013 = {
    "gaussian_noise": "white_noise",
    "colour_noise": "white_noise_ycbcr",
    "impulse_noise": "impulse_noise",
    "quantisation_noise": "quantisation",
    "gaussian_blur": "gaussian_blur",
    "denoise": "denoise",
    "jpeg": "jpeg",
    "jpeg2000": "jpeg2000",
    "non_eccentricity_pattern": "non_eccentricity_patch",
    "saturation_change": "colour_saturation_hsv",
    "multiplicative_noise": "multiplicative_noise",
    "colour_quantisation_dither": "colour_quantisation",
}
_CSIQ = {"awgn": "white_noise", "blur": "gaussian_blur", "jpeg": "jpeg", "jpeg2000": "jpeg2000"}
_SAME = {name: name for name in DISTORTIONS}
SHARED = {"kadid10k": _SAME, "tid2013": _TID2013, "csiq": _CSIQ, "folder": _SAME}


def kadid_types(dataset: str) -> dict[str, int]:
    """{what a dataset calls a distortion: number 1..25 of the same in KADID-10k}.

    In a folder of one's own, distortions are called as in KADID-10k (kadid10k.DISTORTIONS).

    Raises:
      ConfigError: a dataset that shares none, or of which that is not known.
    """
    if dataset not in SHARED:
        raise ConfigError(f"labels can be transferred from {', '.join(SHARED)}, not from {dataset}")
    return {theirs: DISTORTIONS.index(ours) + 1 for theirs, ours in SHARED[dataset].items()}
