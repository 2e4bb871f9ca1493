"""Random variables, to compare a layer with its definition."""

import functools

import jax
import numpy as np


def random_variables(layer, *maps, **options):
    """Random values for all variables of a layer; variances are positive."""
    shapes = jax.eval_shape(functools.partial(layer.init, **options), jax.random.key(0), *maps)
    rng = np.random.default_rng(0)
    draw = lambda path, x: rng.uniform(0.5, 1.5, x.shape) if path[-1].key == "var" else rng.standard_normal(x.shape)  # noqa: E731
    return jax.tree.map_with_path(lambda path, x: draw(path, x).astype(np.float32), shapes)
