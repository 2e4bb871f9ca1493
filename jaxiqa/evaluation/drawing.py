"""What all figures share: colours, axes, text that any font can show, and files that are whole or not there.

Figures are drawn with matplotlib's objects, not pyplot, so nothing of the process's plotting state is touched. A path
may be a str, a pathlib path or an etils path (a bucket).
"""

import io
import textwrap

import numpy as np
from etils import epath
from PIL import Image

from jaxiqa.errors import full_disk

INK, BLUE, ORANGE, GRID = "#1f2933", "#2563a8", "#c2620e", "#dde3ea"
DPI = 120


def blank(width: float, height: float, **options):
    """An empty white figure of width x height inches."""
    from matplotlib.figure import Figure  # takes half a second, for which no program's --help should wait

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)


def new_figure(width: float, height: float):
    """A figure of width x height inches with one pair of axes: (figure, axes)."""
    figure = blank(width, height, layout="constrained")
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes, lines: str = "both") -> None:
    """An open frame, with a grid below what is drawn; `lines` is "both", or "x" for those that cross the x axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def head(axes, title: str, letters: int = 58, below: str = "") -> None:
    """Puts the title over the axes in lines of up to `letters`, and the text `below` it."""
    title = "\n".join(textwrap.wrap(plain(title), letters))
    axes.set_title(title + below, fontsize=11, color=INK, parse_math=False)


def thumbnail(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """A uint8 (H, W, 3) image in proportion with no side above `side` pixels; smaller ones are as they are."""
    small = Image.fromarray(image_HWC)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(small)


def plain(text: str) -> str:
    """The text with ? for what the font that matplotlib ships may lack: file names hold anything, and it would warn."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def shortened(line: str, longest: int) -> str:
    """The line, without its middle where it is longer than `longest` letters."""
    return line if len(line) <= longest else f"{line[: longest // 2 - 1]}…{line[-(longest // 2) :]}"


def save(path, figure) -> None:
    """Write a figure as PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_bytes(path, data.getvalue())


def write_bytes(path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    path = epath.Path(path)
    part = path.with_name(path.name + ".part")
    with full_disk(path):
        part.write_bytes(data)
        part.replace(path)
