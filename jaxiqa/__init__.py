"""jaxiqa: no-reference image quality assessment in JAX/Flax.

Names and submodules are imported on first use, so that `import jaxiqa` is fast and does not import JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxiqa.version import __version__

if TYPE_CHECKING:
    from jaxiqa.models import list_models
    from jaxiqa.scoring.batch_scorer import BatchScorer
    from jaxiqa.scoring.metric import create_metric

__all__ = ["BatchScorer", "__version__", "create_metric", "list_models"]

_HOMES = {
    "BatchScorer": "jaxiqa.scoring.batch_scorer",
    "create_metric": "jaxiqa.scoring.metric",
    "list_models": "jaxiqa.models",
}
_ROOMS = ("datasets", "distortions", "evaluation", "models", "scoring", "weights")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"jaxiqa.{name}")
    raise AttributeError(f"module 'jaxiqa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
