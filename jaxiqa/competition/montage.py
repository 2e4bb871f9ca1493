"""Figures of a competition: a pair of images with its scores and verdict, and the two matrices."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.competition.gmad import TOLERANCE
from jaxiqa.figures.drawing import BLUE, DPI, INK, ORANGE, blank, plain, save, shortened, thumbnail

_SIDE = 640  # longest side of a drawn image in pixels
_GAP, _MARGIN = 24, 30
_LINE = 27  # pixels between lines of text
_COLOURS = {"succeeds": ORANGE, "resisted": BLUE, "backfires": INK}
_VERDICTS = {
    "succeeds": "the attack succeeds",
    "resisted": "the attack is resisted (no visible difference)",
    "backfires": "the attack backfires",
}


def draw_pair(path, pair: Mapping, worst_HWC: np.ndarray, best_HWC: np.ndarray, levels: int, tol: float = TOLERANCE):
    """Draws one pair of gmad.make_pairs as PNG, with its verdict if it is judged. No image is cropped or enlarged.

    Args:
      path: the file to write.
      pair: a pair of a level that is not empty.
      worst_HWC, best_HWC: uint8 (H, W, 3), its two images, of any sizes.
      levels, tol: number of levels and tolerance of the competition.
    """
    images = [thumbnail(image, _SIDE) for image in (worst_HWC, best_HWC)]
    columns = [max(image.shape[1], 380) for image in images]
    width, tallest = sum(columns) + _GAP + 2 * _MARGIN, max(image.shape[0] for image in images)
    above, below = 3 * _LINE, (6 if "verdict" in pair else 4) * _LINE
    height = above + tallest + below
    figure = blank(width / DPI, height / DPI)

    def write(x, y, text, size=10, **style):
        letters = int((columns[0] if x != width / 2 else width) / 8)
        text = shortened(plain(text), letters)
        style = {"color": INK, "ha": "center", "va": "center", **style}
        figure.text(x / width, 1 - y / height, text, fontsize=size, parse_math=False, **style)

    attacker, defender = pair["attacker"], pair["defender"]
    write(width / 2, _LINE, f"{attacker} attacks {defender}, level {pair['level']} of {levels}", 12, weight="bold")
    level = f"{pair['centre']:.1f} ± {tol:g}, the level of {pair['n_in_level']} images of the pool"
    write(width / 2, 2 * _LINE, f"{defender} scores both at {level}")
    left = _MARGIN
    for image, column, end in zip(images, columns, ("worst", "best"), strict=True):
        x, y = left + (column - image.shape[1]) // 2, above + (tallest - image.shape[0]) // 2
        # Pixels are drawn one to one: resampling by matplotlib would blur them and hide the difference.
        figure.figimage(image, x, height - y - image.shape[0], origin="upper")
        y, centre = above + tallest + _LINE, left + column / 2
        write(centre, y, f"{attacker}'s {end}: {pair[f'attacker_{end}']:.1f}", 11)
        write(centre, y + _LINE, f"{defender}: {pair[f'defender_{end}']:.1f}")
        write(centre, y + 2 * _LINE, str(pair[f"{end}_id"]), 8, color="#5f6b7a")
        left += column + _GAP
    if "verdict" in pair:
        verdict = f"preference {pair['preference']:+.1f}: {_VERDICTS[pair['verdict']]}"
        write(width / 2, height - 1.5 * _LINE, verdict, 11, weight="bold", color=_COLOURS[pair["verdict"]])
    save(path, figure)


def draw_matrices(path, aggressiveness_MM: np.ndarray, resistance_MM: np.ndarray, names: Sequence[str]):
    """Draws the matrices of gmad.matrices side by side as PNG, with their values."""
    count = len(names)
    figure = blank(4.6 + 1.5 * count, 2.2 + 0.7 * count, layout="constrained")
    panels = (
        ("aggressiveness", aggressiveness_MM, "attacker", "defender", -100),
        ("resistance", resistance_MM, "defender", "attacker", 0),
    )
    for axes, (title, values, rows, columns, lowest) in zip(figure.subplots(1, 2), panels, strict=True):
        shown = np.ma.masked_where(np.eye(count, dtype=bool), values)
        axes.imshow(shown, cmap="RdBu" if lowest else "Blues", vmin=lowest, vmax=100)
        axes.set_xticks(range(count), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
        axes.set(xlabel=columns, ylabel=rows)
        axes.set_title(f"{title}, {lowest}..100", fontsize=11, color=INK)
        axes.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(values):
            if row != column:
                dark = abs(value) > 60
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", color="white" if dark else INK)
    save(path, figure)
