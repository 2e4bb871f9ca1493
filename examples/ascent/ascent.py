"""Gradient ascent on a score: restore a blurred image, and count how often an ascent deceives the score.

  python examples/ascent/ascent.py restore PHOTOGRAPH FIGURE.png
  python examples/ascent/ascent.py count FOLDER FIGURE.png --images 50

`restore` blurs the centre of a reduced photograph and raises the score of the result. The ascent changes only the
amounts of three unsharp masks, which are bounded: with more freedom, it makes patterns that the score likes. The result
is sharper and closer to the original, but fine texture does not come back, and edges have light seams. A centre without
texture, such as a sky, becomes worse. `count` takes the clean photographs, reduced, and changes the pixels of squares
of them, within a norm, so that the score rises. No change makes a clean photograph better, so each rise deceives the
score. It also counts how many the reasons of the score notice (jaxiqa score --explain): the most likely family is then
no longer "pristine". Run it again when the weights change.
"""

import argparse
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import jaxiqa
from jaxiqa.figures import drawing

SIDE = 192  # of the squares that are used, in pixels
SCALES = (1.0, 1.5, 2.5)  # of the unsharp masks, in pixels
MOST = 2.0  # amount of each


def squares(paths, number: int) -> np.ndarray:
    """uint8 (number, SIDE, SIDE, 3): the centres of photographs of shorter side 2 SIDE, then their four corners."""
    found = []
    for part in range(5):
        for path in paths[: number - len(found)]:
            image = Image.open(path).convert("RGB")
            scale = 2 * SIDE / min(image.size)
            image = np.asarray(image.resize([round(scale * side) for side in image.size], Image.Resampling.LANCZOS))
            height, width = image.shape[:2]
            if part == 0:
                top, left = (height - SIDE) // 2, (width - SIDE) // 2
            else:
                top, left = (height - SIDE) * ((part - 1) // 2), (width - SIDE) * ((part - 1) % 2)
            found.append(image[top : top + SIDE, left : left + SIDE])
    return np.stack(found)


def blur(image_HWC, sigma: float):
    """Gaussian blur, edges repeated."""
    reach = int(3 * sigma + 1)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    bell = jnp.asarray(bell / bell.sum(), jnp.float32)
    planes = jnp.pad(image_HWC, ((reach, reach), (reach, reach), (0, 0)), mode="edge").transpose(2, 0, 1)[:, None]
    for kernel in (bell[:, None], bell[None]):
        planes = jax.lax.conv_general_dilated(planes, kernel[None, None], (1, 1), "VALID")
    return planes[:, 0].transpose(1, 2, 0)


def restore(metric, sharp, steps: int = 30, sigma: float = 1.5):
    """The blurred image and the restored one."""
    blurred = jnp.round(255 * blur(sharp, sigma)) / 255
    details = jnp.stack([blurred - blur(blurred, scale) for scale in SCALES])

    def sharpened(amounts):
        return jnp.clip(blurred + jnp.tensordot(amounts, details, 1), 0, 1)

    step = jax.jit(jax.value_and_grad(lambda amounts: metric.apply(sharpened(amounts)[None])[0]))
    amounts, best = jnp.zeros(len(SCALES)), (-np.inf, jnp.zeros(len(SCALES)))
    for _ in range(steps):
        score, gradient = step(amounts)
        best = max(best, (float(score), amounts), key=lambda one: one[0])
        amounts = jnp.clip(amounts + 0.2 * gradient / (jnp.linalg.norm(gradient) + 1e-9), 0, MOST)
    return blurred, sharpened(best[1])


def ascend(metric, images_BHWC, norm: float, steps: int = 20):
    """An ascent of `steps` steps: the images, at most `norm` (root mean square, of 1) away; scores before and after."""

    @jax.jit
    def step(change):
        def total(change):
            scores = metric.apply(jnp.clip(images_BHWC + change, 0, 1))
            return scores.sum(), scores

        (_, scores), gradient = jax.value_and_grad(total, has_aux=True)(change)
        size = jnp.sqrt(jnp.square(gradient).mean((1, 2, 3), keepdims=True))
        change += 2.5 * norm / steps * gradient / (size + 1e-12)
        size = jnp.sqrt(jnp.square(change).mean((1, 2, 3), keepdims=True))
        return change * jnp.minimum(1.0, norm / (size + 1e-12)), scores

    change, scores = jnp.zeros_like(images_BHWC), []
    for _ in range(steps):
        change, now = step(change)
        scores.append(now)
    found = jnp.clip(images_BHWC + change, 0, 1)
    found = jnp.round(255 * found) / 255  # as a file stores it
    return found, np.asarray(scores[0]), np.asarray(metric.apply(found))


def draw(path, columns, titles) -> None:
    """A row of images with titles for each item of `columns`."""
    rows = len(columns)
    figure = drawing.blank(9, 3.2 * rows, layout="constrained")
    grid = np.array(figure.subplots(rows, len(columns[0]))).reshape(rows, -1)
    chained = itertools.chain.from_iterable
    for axes, image, title in zip(grid.flat, chained(columns), chained(titles), strict=True):
        axes.imshow(np.clip(image, 0, 1))
        axes.set_axis_off()
        axes.set_title(title, fontsize=9, color=drawing.INK)
    drawing.save(pathlib.Path(path), figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("restore", "count"))
    parser.add_argument("source", help="photograph, or folder of photographs")
    parser.add_argument("figure", help="PNG file to write")
    parser.add_argument("--checkpoint", default="ready")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--norm", type=float, default=2.0, help="root mean square of the change, of 255")
    args = parser.parse_args()
    metric = jaxiqa.create_metric(checkpoint=args.checkpoint)
    if args.what == "restore":
        sharp = squares([args.source], 1)[0] / np.float32(255)
        blurred, restored = restore(metric, sharp)
        images = [sharp, blurred, restored]
        found = np.asarray(metric.apply(jnp.stack(images)))
        psnr = [-10 * np.log10(np.mean((np.asarray(image) - sharp) ** 2)) for image in images[1:]]
        names = ("original", f"blurred, PSNR {psnr[0]:.1f} dB", f"restored, PSNR {psnr[1]:.1f} dB")
        draw(args.figure, [images], [[f"{n}\nscore {s:.0f}" for n, s in zip(names, found, strict=True)]])
        print(
            f"score {found[1]:.1f} -> {found[2]:.1f} (original {found[0]:.1f}), PSNR {psnr[0]:.2f} -> {psnr[1]:.2f} dB"
        )
        return
    count(metric, args)


def count(metric, args) -> None:
    """Ascends from many images, prints how many scores rise and how many rises are noticed, and draws some."""
    paths = sorted(path for path in pathlib.Path(args.source).iterdir() if path.suffix in (".jpg", ".png"))
    images = squares(paths, args.images) / np.float32(255)
    found, before, after = [], [], []
    for start in range(0, len(images), 10):
        one = ascend(metric, jnp.asarray(images[start : start + 10]), args.norm / 255)
        for kept, new in zip((found, before, after), one, strict=True):
            kept.append(np.asarray(new))
    found, before, after = (np.concatenate(parts) for parts in (found, before, after))
    rise = after - before
    risen = rise > 1
    print(
        f"{risen.sum()} of {len(rise)} ascents of at most {args.norm:g} of 255 (root mean square) raise the score "
        f"by more than 1, the median by {np.median(rise):.1f}, the largest by {rise.max():.1f}"
    )
    scorer = jaxiqa.BatchScorer(args.checkpoint, explain=True)
    eight_bits = [np.round(255 * part).astype(np.uint8) for part in (images, found)]
    columns = [scorer({"image": list(part)}) for part in eight_bits]
    tables = [np.stack([column[name] for name in scorer.families], 1) for column in columns]
    families = [[scorer.families[k] for k in table.argmax(1)] for table in tables]
    was, now = (np.array([family != "pristine" for family in part]) for part in families)
    print(
        f"the reasons call {np.sum(now & risen)} of these {risen.sum()} not pristine, {np.sum(was & risen)} of them "
        f"already before the ascent; {np.sum(risen & ~was & now)} of {np.sum(risen & ~was)} that were pristine are "
        f"noticed. Severity {columns[0]['severity'].mean():.1f} before, {columns[1]['severity'].mean():.1f} after"
    )
    missed = np.argsort(np.where(now, np.inf, -rise))[:3]  # the largest rises that are not noticed, then others
    shown = [[images[i], found[i], 0.5 + 10 * (found[i] - images[i])] for i in missed]
    titles = [
        [
            f"score {before[i]:.0f}, {families[0][i]}",
            f"after the ascent: {after[i]:.0f}, {families[1][i]}",
            "difference, 10 times",
        ]
        for i in missed
    ]
    draw(args.figure, shown, titles)


if __name__ == "__main__":
    main()
