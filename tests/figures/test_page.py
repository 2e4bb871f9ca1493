"""The HTML page: complete, safe, and as a browser shows it."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from jaxiqa.figures import report
from jaxiqa.figures.page import Page


def write(folder):
    rng = np.random.default_rng(0)
    report.residuals(folder / "r.png", {"all": rng.normal(0, 9, 60), "<blur>": rng.normal(5, 4, 20)}, "title")
    page = Page("a <b>model</b> & more", "labels are transferred")
    page.table("Metrics", [{"metric": "SRCC", "value": 0.87654, "from": float("nan")}])
    page.figures("Figures", [("residuals", (folder / "r.png").read_bytes())])
    page.gallery("Best", [(np.full((300, 400, 3), 200, np.uint8), "80 for 81\n<script>alert(1)</script>\udcff.png")])
    page.facts("Protocol", {"split": "80/20 by reference", "n": 60})
    page.write(folder / "report.html")
    return (folder / "report.html").read_text()


class Tags(html.parser.HTMLParser):
    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page(tmp_path):
    text = write(tmp_path)
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert not [tag for tag, _ in tags.seen if tag == "script"]
    assert "a &lt;b&gt;model&lt;/b&gt; &amp; more" in text and "&lt;script&gt;" in text
    assert "0.8765" in text and "nan" not in text
    sources = [attributes["src"] for tag, attributes in tags.seen if tag == "img"]
    assert len(sources) == 2 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert not re.search(r'(?:src|href)="(?!data:)', text)  # nothing is fetched


def test_a_browser_shows_it(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium, which only draws the page here, is installed")
    write(tmp_path)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--window-size=1000,1200", f"--screenshot={tmp_path / 'page.png'}", str(tmp_path / "report.html")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(tmp_path / "page.png") as image:
        shot = np.asarray(image.convert("RGB")).astype(int)
    assert shot.shape == (1200, 1000, 3)
    assert (np.abs(shot - 200).max(-1) < 4).mean() > 0.01  # the grey image
    assert (np.abs(shot - np.array([0xC2, 0x62, 0x0E])).max(-1) < 40).sum() > 50  # medians, and the note's edge
