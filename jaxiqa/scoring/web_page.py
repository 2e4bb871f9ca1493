"""The page that shows scores in a browser. Its sources are in jaxiqa/web: plain JavaScript, without a build step.

`jaxiqa export` writes it with an engine that scores in the browser, `jaxiqa serve` has one that asks the server.
"""

import importlib.resources
from collections.abc import Mapping, Sequence

from jaxiqa.files import json_text


def files(engine: Sequence[str], config: Mapping, policy: str) -> dict[str, str]:
    """{name: text} of the files of the page: index.html, its style and its scripts.

    Args:
      engine: names of the scripts that define makeEngine (see jaxiqa/web/engine.js).
      config: what the page knows: Scorer.about(), and what the engine needs.
      policy: content security policy: what the browser lets the page load and send.
    """
    scripts = [*engine, "page.js"]
    values = {
        "policy": policy,
        "scripts": "\n".join(f'<script src="{name}"></script>' for name in scripts),
        "config": json_text(config).replace("<", "\\u003c"),  # the last, because its texts may hold braces
    }
    page = source("index.html")
    for name, value in values.items():
        page = page.replace(f"{{{name}}}", value)
    return {"index.html": page, **{name: source(name) for name in ("style.css", *scripts)}}


def source(name: str) -> str:
    """The text of a file in jaxiqa/web."""
    return (importlib.resources.files("jaxiqa") / "web" / name).read_text(encoding="utf-8")
