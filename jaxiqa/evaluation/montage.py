"""Figures of a competition: a pair of pictures with what everybody says about it, and the two matrices."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxiqa.evaluation.drawing import BLUE, DPI, INK, ORANGE, blank, plain, save, shortened, thumbnail
from jaxiqa.evaluation.gmad import TOLERANCE

_SIDE = 640  # longest side of a picture in pixels
_GAP, _MARGIN = 24, 30
_LINE = 27  # pixels between lines of text
_COLOURS = {"succeeds": ORANGE, "resisted": BLUE, "backfires": INK}
_VERDICTS = {
    "succeeds": "the attack succeeds",
    "resisted": "resisted: no visible difference",
    "backfires": "the attack backfires",
}


def draw_pair(path, pair: Mapping, worst_HWC: np.ndarray, best_HWC: np.ndarray, levels: int, tol: float = TOLERANCE):
    """PNG of one pair of gmad.make_pairs, with the verdict where it is judged; no picture is cropped or enlarged.

    Args:
      pair: one that is none of an empty level.
      worst_HWC, best_HWC: uint8 (H, W, 3), its two pictures, of any sizes.
      levels, tol: of the competition.
    """
    pictures = [thumbnail(image, _SIDE) for image in (worst_HWC, best_HWC)]
    columns = [max(picture.shape[1], 380) for picture in pictures]
    width, tallest = sum(columns) + _GAP + 2 * _MARGIN, max(picture.shape[0] for picture in pictures)
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
    level = f"{pair['centre']:.1f} ± {tol:g}, as {pair['n_in_level']} pictures of the pool are"
    write(width / 2, 2 * _LINE, f"for {defender} both are equally good: {level}")
    left = _MARGIN
    for picture, column, end in zip(pictures, columns, ("worst", "best"), strict=True):
        x, y = left + (column - picture.shape[1]) // 2, above + (tallest - picture.shape[0]) // 2
        # Whole pixels one to one: resampling by matplotlib would blur what the figure is for.
        figure.figimage(picture, x, height - y - picture.shape[0], origin="upper")
        y, centre = above + tallest + _LINE, left + column / 2
        write(centre, y, f"{attacker}'s {end}: {pair[f'attacker_{end}']:.1f}", 11)
        write(centre, y + _LINE, f"{defender}: {pair[f'defender_{end}']:.1f}")
        write(centre, y + 2 * _LINE, str(pair[f"{end}_id"]), 8, color="#5f6b7a")
        left += column + _GAP
    if "verdict" in pair:
        said = f"preference {pair['preference']:+.1f}: {_VERDICTS[pair['verdict']]}"
        write(width / 2, height - 1.5 * _LINE, said, 11, weight="bold", color=_COLOURS[pair["verdict"]])
    save(path, figure)


def draw_matrices(path, aggressiveness_MM: np.ndarray, resistance_MM: np.ndarray, names: Sequence[str]):
    """PNG of the matrices of gmad.matrices side by side, with their values."""
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
