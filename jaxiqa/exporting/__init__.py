"""A checkpoint as one file for other runtimes, or as a page for browsers."""

import importlib.util

from jaxiqa.errors import ConfigError


def need_packages() -> None:
    """Raises ConfigError if a package of the extra [export] is not installed."""
    for package in ("onnx", "onnxruntime"):
        if not importlib.util.find_spec(package):
            raise ConfigError(
                f"ONNX files need the package {package}; run python -m pip install 'jaxiqa[export]'",
                code="package",
                key=package,
            )
