"""jaxiqa: no-reference image quality assessment in JAX/Flax."""

import importlib.metadata

__version__ = importlib.metadata.version("jaxiqa")
__all__ = ["__version__", "create_metric", "list_models"]

from jaxiqa.models import list_models
from jaxiqa.scoring.metric import create_metric
