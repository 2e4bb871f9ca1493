"""Parts that all figures share: colours, axes, and text that any font can show.

Figures are drawn with matplotlib's objects, not with pyplot, so the plotting state of the process does not change. A
path may be a str, a pathlib path or an etils path (a bucket).
"""

import io
import textwrap

import numpy as np
from PIL import Image

from jaxiqa.files import write_bytes

INK, BLUE, ORANGE, GRID = "#1f2933", "#2563a8", "#c2620e", "#dde3ea"
DPI = 120


def blank(width: float, height: float, **options):
    """An empty white figure of width x height inches."""
    from matplotlib.figure import Figure  # the import takes half a second, which would delay every program's --help

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)


def new_figure(width: float, height: float):
    """A figure of width x height inches with one pair of axes: (figure, axes)."""
    figure = blank(width, height, layout="constrained")
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes, lines: str = "both") -> None:
    """Draws an open frame and a grid behind the data; `lines` is "both", or "x" for the lines that cross the x axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def head(axes, title: str, letters: int = 58, below: str = "") -> None:
    """Draws the title over the axes, wrapped at `letters` letters, followed by the text `below`."""
    title = "\n".join(textwrap.wrap(plain(title), letters))
    axes.set_title(title + below, fontsize=11, color=INK, parse_math=False)


def thumbnail(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """Shrinks a uint8 (H, W, 3) image in proportion until no side is above `side` pixels; never enlarges it."""
    small = Image.fromarray(image_HWC)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(small)


def plain(text: str) -> str:
    """Replaces letters that matplotlib's font may lack by ?, because it would warn; file names hold any letters."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def shortened(line: str, longest: int) -> str:
    """The line, without its middle if it is longer than `longest` letters."""
    return line if len(line) <= longest else f"{line[: longest // 2 - 1]}…{line[-(longest // 2) :]}"


def png(figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def save(path, figure) -> None:
    """Writes a figure as PNG."""
    write_bytes(path, png(figure))
