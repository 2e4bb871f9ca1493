"""KADID-10k's 25 distortions written with SciPy, scikit-image and Pillow, as the reference of the speed benchmark.

Each function takes a float64 image (H, W, 3) in 0..1, the parameter and a NumPy generator. The results are close to
ours but not always equal: if a library has the operation, it is used unchanged.
"""

import io

import numpy as np
from PIL import Image
from scipy import interpolate, ndimage, signal
from scipy.cluster import vq
from skimage import color, transform, util


def _convolve(image, kernel):
    pad = [(k // 2, k // 2) for k in kernel.shape]
    padded = np.pad(image, (*pad, (0, 0)), mode="edge")
    return signal.oaconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1))


def _blur(image, sigma):
    return ndimage.gaussian_filter(image, sigma, axes=(0, 1), mode="nearest")


def _curve(image, points):
    return np.clip(interpolate.CubicSpline(*zip(*points, strict=True))(image), 0, 1)


def _codec(image, **options):
    file = io.BytesIO()
    Image.fromarray(util.img_as_ubyte(np.clip(image, 0, 1))).save(file, **options)
    return np.asarray(Image.open(file)) / 255


def _noise(image, variance, rng):
    return np.clip(image + rng.normal(0, variance**0.5, image.shape), 0, 1)


def _lens(image, radius, rng):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return _convolve(image, disk / disk.sum())


def _motion(image, length, rng):
    half = int(length // 2) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    angle = np.radians(rng.integers(181))
    across, along = np.abs(x * np.sin(angle) + y * np.cos(angle)), np.abs(x * np.cos(angle) - y * np.sin(angle))
    line = np.clip(1 - across, 0, 1) * (along <= length / 2)
    return _convolve(image, line / line.sum())


def _diffusion(image, a, rng):
    lab = color.rgb2lab(image)
    lab[..., 1:] = a * _blur(lab[..., 1:], 1.5 * a + 2)
    return np.clip(color.lab2rgb(lab), 0, 1)


def _shift(image, a, rng):
    angle = rng.uniform(0, np.pi / 2)
    rows, columns = round(a * np.sin(angle)), round(a * np.cos(angle))
    moved = np.pad(image[..., 1], ((rows, 0), (columns, 0)), mode="edge")[: image.shape[0], : image.shape[1]]
    edges = ndimage.gaussian_filter(np.hypot(*np.gradient(color.rgb2gray(image))), 4)
    low, high = np.percentile(edges, [1, 99])
    edges = np.clip((edges - low) / (high - low), 0, 1)
    image[..., 1] = edges * moved + (1 - edges) * image[..., 1]
    return image


def _palette(image, n, rng):
    palette = Image.fromarray(util.img_as_ubyte(image)).quantize(int(n), Image.Quantize.MEDIANCUT)
    return np.asarray(Image.fromarray(util.img_as_ubyte(image)).quantize(palette=palette).convert("RGB")) / 255


def _saturation(image, factor, rng):
    hsv = color.rgb2hsv(image)
    hsv[..., 1] *= factor
    return np.clip(color.hsv2rgb(hsv), 0, 1)


def _chroma(image, factor, rng):
    lab = color.rgb2lab(image)
    lab[..., 1:] *= factor
    return np.clip(color.lab2rgb(lab), 0, 1)


def _ycbcr_noise(image, variance, rng):
    ycbcr = color.rgb2ycbcr(image)
    return np.clip(color.ycbcr2rgb(ycbcr + 255 * rng.normal(0, variance**0.5, image.shape)), 0, 1)


def _denoise(image, variance, rng):
    noisy = _noise(image, variance, rng)
    return np.clip(np.stack([signal.wiener(noisy[..., c], 5, variance) for c in range(3)], -1), 0, 1)


def _brighten(image, a, rng):
    points = [(0, 0), (0.5, 0.5 + a / 2), (1, 1)]
    lab = color.rgb2lab(image)
    lab[..., 0] = 100 * _curve(lab[..., 0] / 100, points)
    return np.clip((2 * _curve(image, points) + color.lab2rgb(lab)) / 3, 0, 1)


def _jitter(image, a, rng):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    for _ in range(5):
        where = [y + rng.normal(0, a, y.shape), x + rng.normal(0, a, y.shape)]
        image = np.stack([ndimage.map_coordinates(image[..., c], where, order=3, mode="nearest") for c in range(3)], -1)
    return np.clip(image, 0, 1)


def _patches(image, count, rng):
    for _ in range(int(count)):
        top, left = (int(rng.integers(16, side - 32)) for side in image.shape[:2])
        down, right = rng.integers(-8, 9, 2)
        image[top + down : top + down + 16, left + right : left + right + 16] = image[top : top + 16, left : left + 16]
    return image


def _pixelate(image, strength, rng):
    z = 0.95 - strength**0.6
    small = transform.resize(image, [int(np.ceil(z * side)) for side in image.shape[:2]], order=0)
    return transform.resize(small, image.shape[:2], order=0)


def _thresholds(image, n, rng):
    counts, edges = np.histogram(image, 256, (0, 1))
    values = np.repeat((edges[:-1] + edges[1:]) / 2, np.maximum(counts // 64, 1))  # Otsu is a k-means of the histogram
    levels = np.sort(vq.kmeans2(values, int(n) + 1, minit="points", rng=rng, missing="warn")[0])
    return levels[np.digitize(image, (levels[1:] + levels[:-1]) / 2)]


def _blocks(image, count, rng):
    for _ in range(int(count)):
        top, left = (int(rng.integers(side - 32)) for side in image.shape[:2])
        image[top : top + 32, left : left + 32] = rng.uniform(size=3)
    return image


def _sharpen(image, amount, rng):
    lab = color.rgb2lab(image)
    lab[..., 0] += amount * (lab[..., 0] - _blur(lab[..., 0], 3))
    return np.clip(color.lab2rgb(lab), 0, 1)


def _contrast(image, a, rng):
    return _curve(image, [(0, 0), (0.3, 0.25 - a / 4), (0.5, 0.5), (0.7, 0.75 + a / 4), (1, 1)])


REFERENCE = {
    "gaussian_blur": lambda image, sigma, rng: _blur(image, sigma),
    "lens_blur": _lens,
    "motion_blur": _motion,
    "colour_diffusion": _diffusion,
    "colour_shift": _shift,
    "colour_quantisation": _palette,
    "colour_saturation_hsv": _saturation,
    "colour_saturation_lab": _chroma,
    "jpeg2000": lambda image, ratio, rng: _codec(image, format="JPEG2000", quality_layers=[ratio], irreversible=True),
    "jpeg": lambda image, quality, rng: _codec(image, format="JPEG", quality=int(quality)),
    "white_noise": _noise,
    "white_noise_ycbcr": _ycbcr_noise,
    "impulse_noise": lambda image, p, rng: util.random_noise(image, "s&p", rng=rng, amount=p),
    "multiplicative_noise": lambda image, v, rng: np.clip(
        image * (1 + rng.uniform(-1, 1, image.shape) * (3 * v) ** 0.5), 0, 1
    ),
    "denoise": _denoise,
    "brighten": _brighten,
    "darken": lambda image, a, rng: _curve(image, [(0, 0), (0.5, 0.5 - a / 2), (1, 1)]),
    "mean_shift": lambda image, shift, rng: np.clip(image + shift, 0, 1),
    "jitter": _jitter,
    "non_eccentricity_patch": _patches,
    "pixelate": _pixelate,
    "quantisation": _thresholds,
    "colour_block": _blocks,
    "high_sharpen": _sharpen,
    "contrast_change": _contrast,
}
