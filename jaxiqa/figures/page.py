"""A self-contained HTML page about a result: facts, tables, figures and images in one file."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from jaxiqa.figures.drawing import thumbnail
from jaxiqa.files import write_bytes

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2933; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #dde3ea; }
table { border-collapse: collapse; } td { overflow-wrap: anywhere; } td img { max-width: none; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.figures img { max-width: 34rem; } .gallery { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; } figcaption { font-size: .8rem; white-space: pre-line; overflow-wrap: anywhere; max-width: 14rem; }
.note { background: #fdf3e7; border-left: 4px solid #c2620e; padding: .4rem .8rem; }
"""
_THUMBNAIL = 220  # longest side in pixels


class Page:
    """Collects sections, then writes the page. Texts are escaped, so they may hold any letters."""

    def __init__(self, title: str, note: str = ""):
        self._title = html.escape(title)
        self._body = [f"<h1>{self._title}</h1>"]
        if note:
            self._body.append(f'<p class="note">{html.escape(note)}</p>')

    def table(self, heading: str, rows: Sequence[Mapping]) -> None:
        """Adds a table of rows with the same keys, which become its header.

        Floats get four decimals. An array, uint8 (H, W, 3), is shown as a small image; None is an empty cell.
        """
        if not rows:
            return
        head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
        body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows)
        self._section(heading, f"<table><tr>{head}</tr>{body}</table>")

    def facts(self, heading: str, values: Mapping) -> None:
        """Adds a table of names and values, one line for each."""
        lines = (f"<tr><th>{html.escape(str(key))}</th>{_cell(value)}</tr>" for key, value in values.items())
        self._section(heading, f"<table>{''.join(lines)}</table>")

    def figures(self, heading: str, pngs: Iterable[tuple[str, bytes]]) -> None:
        """Adds figures: PNG files, each with its text for screen readers."""
        images = "".join(_image(text, data) for text, data in pngs)
        self._section(heading, f'<div class="figures">{images}</div>')

    def gallery(self, heading: str, images: Iterable[tuple[np.ndarray, str]]) -> None:
        """Adds small versions of uint8 (H, W, 3) images with their captions."""
        cells = []
        for image, caption in images:
            text = html.escape(_printable(caption))
            cells.append(f"<figure>{_image(caption, _small(image))}<figcaption>{text}</figcaption></figure>")
        self._section(heading, f'<div class="gallery">{"".join(cells)}</div>')

    def write(self, path) -> None:
        """Writes the page; the file appears only when it is complete."""
        text = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{self._title}</title>'
            f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(self._body) + "\n</body></html>\n"
        )
        write_bytes(path, _printable(text).encode())

    def _section(self, heading: str, inside: str) -> None:
        self._body.append(f"<h2>{html.escape(heading)}</h2>\n{inside}")


def _small(image_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(thumbnail(image_HWC, _THUMBNAIL)).save(file, "PNG")
    return file.getvalue()


def _cell(value) -> str:
    if isinstance(value, np.ndarray):
        return f"<td>{_image('', _small(value))}</td>"
    if isinstance(value, float):
        return f'<td class="number">{"" if math.isnan(value) else f"{value:.4f}"}</td>'
    return f"<td>{html.escape(_printable('' if value is None else str(value)))}</td>"


def _image(text: str, png: bytes) -> str:
    return f'<img alt="{html.escape(_printable(text))}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _printable(text: str) -> str:
    """Replaces what UTF-8 cannot hold, because file names may be any bytes."""
    return text.encode("utf-8", "replace").decode()
