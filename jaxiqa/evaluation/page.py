"""One self-contained HTML page about a result: facts, tables, figures and pictures, with nothing to fetch."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from jaxiqa.evaluation.drawing import thumbnail, write_bytes

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2933; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #dde3ea; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.figures img { max-width: 34rem; } .gallery { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; } figcaption { font-size: .8rem; white-space: pre-line; overflow-wrap: anywhere; max-width: 14rem; }
.note { background: #fdf3e7; border-left: 4px solid #c2620e; padding: .4rem .8rem; }
"""
_THUMBNAIL = 220  # longest side in pixels


class Page:
    """Collects sections, then writes them; texts may hold anything."""

    def __init__(self, title: str, note: str = ""):
        self._title = html.escape(title)
        self._body = [f"<h1>{self._title}</h1>"]
        if note:
            self._body.append(f'<p class="note">{html.escape(note)}</p>')

    def table(self, heading: str, rows: Sequence[Mapping]) -> None:
        """Rows with the same keys, which become the table's head; numbers get four digits."""
        if not rows:
            return
        head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
        body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows)
        self._section(heading, f"<table><tr>{head}</tr>{body}</table>")

    def facts(self, heading: str, values: Mapping) -> None:
        """Names and values, a line each."""
        lines = (f"<tr><th>{html.escape(str(key))}</th>{_cell(value)}</tr>" for key, value in values.items())
        self._section(heading, f"<table>{''.join(lines)}</table>")

    def figures(self, heading: str, pngs: Iterable[tuple[str, bytes]]) -> None:
        """PNG files with what a screen reader says of each."""
        images = "".join(_image(text, data) for text, data in pngs)
        self._section(heading, f'<div class="figures">{images}</div>')

    def gallery(self, heading: str, pictures: Iterable[tuple[np.ndarray, str]]) -> None:
        """Small versions of uint8 (H, W, 3) pictures with their captions."""
        cells = []
        for picture, caption in pictures:
            file = io.BytesIO()
            Image.fromarray(thumbnail(picture, _THUMBNAIL)).save(file, "PNG")
            text = html.escape(_printable(caption))
            cells.append(f"<figure>{_image(caption, file.getvalue())}<figcaption>{text}</figcaption></figure>")
        self._section(heading, f'<div class="gallery">{"".join(cells)}</div>')

    def write(self, path) -> None:
        """Write the page, whole or not at all."""
        text = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{self._title}</title>'
            f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(self._body) + "\n</body></html>\n"
        )
        write_bytes(path, _printable(text).encode())

    def _section(self, heading: str, inside: str) -> None:
        self._body.append(f"<h2>{html.escape(heading)}</h2>\n{inside}")


def _cell(value) -> str:
    if isinstance(value, float):
        return f'<td class="number">{"" if math.isnan(value) else f"{value:.4f}"}</td>'
    return f"<td>{html.escape(_printable(str(value)))}</td>"


def _image(text: str, png: bytes) -> str:
    return f'<img alt="{html.escape(_printable(text))}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _printable(text: str) -> str:
    """File names of any bytes as text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
