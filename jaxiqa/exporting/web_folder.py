"""A checkpoint as a page for browsers: a folder for any web server, or a single HTML file.

The sources of the page are in jaxiqa/web. They are plain JavaScript, without a build step: here only the values in
braces are filled in, and for a single file everything is put into index.html.
"""

import base64
import hashlib
import importlib.resources
import json
import re

import numpy as np

from jaxiqa.errors import ConfigError
from jaxiqa.exporting import browser_runtime
from jaxiqa.exporting.crop_scores import Run, describe
from jaxiqa.files import json_text
from jaxiqa.scoring.scorer import Scorer

_SCRIPTS = ("images.js", "scores.js", "engine.js", "page.js")
_NOTHING_ELSE = "default-src 'none'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
_POLICIES = {  # what the browser lets the page load and send, by whether it is a single file
    False: _NOTHING_ELSE + "script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "worker-src 'self'",
    True: _NOTHING_ELSE + "script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'",
}


def make(scorer: Scorer, model: bytes, run: Run, precision: str, ort: str | None, single: bool) -> dict[str, bytes]:
    """{name: content} of the files of the page; index.html is the last.

    Args:
      scorer: the loaded checkpoint.
      model: its ONNX file.
      run: runs that file.
      precision: of that file.
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
    about = describe(scorer, precision)
    card = {key: value for key, value in scorer.card.to_dict().items() if value}
    config = {
        "model": about["model"],
        "digest": about["weights_sha256"],
        "jaxiqa": about["jaxiqa"],
        "card": card,
        "crops": json.loads(about["crops"]),
        "check": float(run(made_crop(scorer))["score"][0]),
        "webgpu": webgpu,
        "ort": build,
    }
    texts = {name: _source(name) for name in ("index.html", "style.css", *_SCRIPTS, "offline.js")}
    page = texts.pop("index.html").replace("{policy}", _POLICIES[single])
    page = page.replace("{config}", json_text(config).replace("<", "\\u003c"))
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


def _source(name: str) -> str:
    return (importlib.resources.files("jaxiqa") / "web" / name).read_text(encoding="utf-8")


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
