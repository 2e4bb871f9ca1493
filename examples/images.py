"""Writes 100 small JPEG files, cut from a photograph of scikit-image; one of them is broken: python images.py FOLDER"""

import pathlib
import sys

import skimage.data
from PIL import Image

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
photograph = Image.fromarray(skimage.data.astronaut())
for i in range(100):
    left, top = i % 10 * 30, i // 10 * 30
    photograph.crop((left, top, left + 160 + i, top + 200)).save(folder / f"{i:03d}.jpg", quality=10 + i * 85 // 100)
(folder / "042.jpg").write_bytes(b"no image")
