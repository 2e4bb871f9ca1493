"""jaxiqa: no-reference image quality assessment in JAX/Flax."""

from jaxiqa.models import list_models
from jaxiqa.scoring.metric import create_metric
from jaxiqa.version import __version__

__all__ = ["__version__", "create_metric", "list_models"]
