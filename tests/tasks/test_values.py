"""Values that a config may and may not have, told apart by the config alone (F16)."""

import pytest
from ml_collections import ConfigDict
from tiny_run import make_config

from jaxiqa.errors import ConfigError
from jaxiqa.tasks.values import check_values

BAD = [
    ("seed", -1),
    ("seed", 2**32),
    ("model.dropout", 2.0),
    ("model.dropout", 1.0),
    ("resize", -5),
    ("resize", (512, 0)),
    ("resize", (512,)),
    ("resize", "large"),
    ("cache_gb", -1.0),
    ("cache_gb", float("nan")),
    ("accumulate", 0),
    ("ema", 1.0),
    ("optimizer.learning_rate", 0.0),
    ("optimizer.learning_rate", float("inf")),
    ("optimizer.learning_rate", "1e-3"),
    ("optimizer.weight_decay", -1e-4),
    ("optimizer.b1", 1.0),
    ("optimizer.b2", -0.1),
    ("optimizer.eps", 0.0),
    ("optimizer.grad_clip_norm", -1.0),
    ("optimizer.grad_skip_norm", -1.0),
]


def config_with(key, value) -> ConfigDict:
    config = make_config("pictures").copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({key: value})
    return config


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_value_that_cannot_work(key, value):
    with pytest.raises(ConfigError) as error:
        check_values(config_with(key, value))
    assert str(error.value).startswith(f"config.{key}={value} must be ")


@pytest.mark.parametrize("total", ["1e400 epochs", "1e999", "1e400 examples"])
def test_an_endless_run(total):
    with pytest.raises(ConfigError, match=r'config\.total: "1e\d+.*" is too long; it must be 2,147,483,647 steps or'):
        check_values(config_with("total", total))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2**32 - 1),
        ("model.dropout", 0.0),
        ("resize", 0),
        ("resize", 384),
        ("resize", (512, 384)),
        ("cache_gb", 0.0),
        ("optimizer.b1", 0.0),
        ("optimizer.grad_clip_norm", 0.0),
    ],
)
def test_a_value_that_can(key, value):
    check_values(config_with(key, value))
