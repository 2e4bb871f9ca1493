"""A checkpoint as a page for browsers: a folder for any web server, or a single HTML file.

For a single file, everything that scoring/web_page.py gives is put into index.html.
"""

import base64
import hashlib
import json
import re

import numpy as np

from jaxiqa.errors import ConfigError
from jaxiqa.exporting import browser_runtime
from jaxiqa.exporting.crop_scores import Run
from jaxiqa.scoring import web_page
from jaxiqa.scoring.scorer import Scorer

_ENGINE = ("images.js", "scores.js", "engine.js")
_NOTHING_ELSE = "default-src 'none'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
_POLICIES = {  # what the browser lets the page load and send, by whether it is a single file
    False: _NOTHING_ELSE + "script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "worker-src 'self'",
    True: _NOTHING_ELSE + "script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'",
}


def make(scorer: Scorer, model: bytes, run: Run, ort: str | None, single: bool) -> dict[str, bytes]:
    """{name: content} of the files of the page; index.html is the last.

    Args:
      scorer: the loaded checkpoint.
      model: its ONNX file.
      run: runs that file.
      ort: folder of the unpacked package onnxruntime-web; None: npm fetches it.
      single: whether index.html holds everything.

    Raises:
      ConfigError: the crops are random, or as for browser_runtime.read.
    """
    import onnx

    policy = scorer.predictor.cropper.policy
    if policy.kind == "random":
        raise ConfigError(
            f"crops {policy} depend on NumPy's random numbers, which a page lacks; give another policy, e.g. "
            "--crops auto:25",
            code="conflict",
            key="--crops",
        )
    operations = {node.op_type for node in onnx.load_from_string(model).graph.node}
    webgpu = "Conv" in operations and not single  # statistics alone are faster on a CPU
    build = browser_runtime.BUILDS[webgpu]
    runtime = browser_runtime.read(build, ort)
    check = float(run(made_crop(scorer))["score"][0])
    config = {**scorer.about(), "check": check, "webgpu": webgpu, "ort": build}
    texts = web_page.files(_ENGINE, config, _POLICIES[single]) | {"offline.js": web_page.source("offline.js")}
    page = texts.pop("index.html")
    if single:
        return {"index.html": _joined(page, texts, model, runtime, build).encode()}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {"model.onnx": model, **{f"ort/{name}": content for name, content in runtime.items()}}
    files["index.html"] = page.encode()
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in files.values())).hexdigest()
    kept = json.dumps(["./", *(name for name in files if name not in ("offline.js", "index.html"))])
    files["offline.js"] = texts["offline.js"].replace("{digest}", digest[:16]).replace("{files}", kept).encode()
    return files


def made_crop(scorer: Scorer) -> np.ndarray:
    """The crop (1, S crop, crop, 3) by which a page checks its engine; engine.js makes the same."""
    shape = scorer.predictor.cropper.shape
    i = np.arange(np.prod(shape), dtype=np.int64)
    return ((i * 37 + (i * i % 8191) * 11) % 256).astype(np.uint8).reshape(1, *shape)


def _joined(page: str, texts: dict[str, str], model: bytes, runtime: dict[str, bytes], build: dict[str, str]) -> str:
    """The page with its style, its scripts, the runtime and the model inside."""
    safe = lambda text: text.replace("</script", "<\\/script")  # noqa: E731
    inside = lambda kind, text: f"<script{kind}>{text}</script>"  # noqa: E731
    data = {"model": model, "ort-wasm": runtime[build["wasm"]]}
    blocks = [inside(f' type="text/plain" id="{id}"', base64.b64encode(data[id]).decode()) for id in data]
    blocks.append(inside(' type="text/plain" id="ort-glue"', safe(runtime[build["glue"]].decode())))
    blocks.append(inside("", safe(runtime[build["script"]].decode())))
    page = page.replace('<link rel="stylesheet" href="style.css">', f"<style>\n{texts['style.css']}</style>")
    parts = re.split(r'<script src="(\w+\.js)"></script>', page)
    scripts = [inside("", "\n" + safe(texts[name])) for name in parts[1::2]]
    return parts[0] + "\n".join([*blocks, *scripts]) + parts[-1]
