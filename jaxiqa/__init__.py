"""jaxiqa: no-reference image quality assessment in JAX/Flax."""

import importlib.metadata

from jaxiqa.models import list_models

__version__ = importlib.metadata.version("jaxiqa")
__all__ = ["__version__", "list_models"]
