"""The overlay of a quality map: the image in grey, colours for the score, boxes around the worst parts."""

from collections.abc import Sequence

import numpy as np

from jaxiqa.figures.drawing import INK, blank, head, save, shortened

_LONGEST = 900  # pixels of the longer side that are drawn
_SPAN = 20.0  # the least range of the legend, so that an even image is not shown as uneven


def overlay(image_HWC: np.ndarray, score_HW: np.ndarray) -> np.ndarray:
    """The image in grey below the colours of the scores: red (0), yellow (50), blue (100). uint8 (H, W, 3)."""
    from matplotlib import colormaps

    colour_HWC = colormaps["RdYlBu"](np.clip(score_HW / 100, 0, 1))[..., :3] * 255
    return (0.55 * _grey(image_HWC)[..., None] + 0.45 * colour_HWC).astype(np.uint8)


def _grey(image_HWC: np.ndarray) -> np.ndarray:
    return image_HWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def draw(
    path,
    image_HWC: np.ndarray,
    score_HW: np.ndarray,
    worst: Sequence[tuple[int, int, float]],
    side: int,
    title: str,
) -> None:
    """Draws a quality map as PNG.

    Args:
      path: the file to write.
      image_HWC: uint8.
      score_HW: score of each pixel, 0..100.
      worst: (top, left, score) of the boxes, worst first.
      side: of a box, in pixels.
      title: above the image.
    """
    from matplotlib.patches import Rectangle

    height, width = score_HW.shape
    step = max(1, -(-max(height, width) // _LONGEST))
    figure = blank(8.5, 1.2 + 7 * height / width, layout="constrained")
    axes = figure.subplots()
    grey = _grey(image_HWC[::step, ::step])
    extent = (0, width, height, 0)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
    middle, half = (score_HW.max() + score_HW.min()) / 2, max(_SPAN, np.ptp(score_HW)) / 2
    colours = axes.imshow(
        score_HW[::step, ::step], cmap="RdYlBu", vmin=middle - half, vmax=middle + half, alpha=0.45, extent=extent
    )
    for i, (top, left, score) in enumerate(worst, 1):
        axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=INK, linewidth=2.5))
        axes.text(left + 4, top + 4, f"{i}: {score:.0f}", va="top", color="white", backgroundcolor=INK, fontsize=8)
    axes.set_axis_off()
    figure.colorbar(colours, ax=axes, label="score of the crops around a pixel; higher is better", shrink=0.8)
    head(axes, shortened(title, 70), 70)
    save(path, figure)
