"""What of a config can be judged by itself: before pictures are read, rendered or distorted, which may take minutes."""

import math

from flax import traverse_util
from ml_collections import ConfigDict

from jaxiqa.errors import ConfigError
from jaxiqa.training import optim
from jaxiqa.training.durations import parse_duration
from jaxiqa.training.losses import parse_loss

_CHOICES = {
    "labels": ("score01", "native"),
    "frozen_bn": ("eval", "train"),
    "dtype": ("float32", "bfloat16"),
}


def _is_seed(value) -> bool:
    return isinstance(value, int) and 0 <= value < 2**32


def _is_count(value) -> bool:
    return isinstance(value, int) and value >= 1


def _is_size(value) -> bool:
    if isinstance(value, int):
        return value >= 0
    return len(value) == 2 and all(isinstance(side, int) and side > 0 for side in value)


def _is_positive(value) -> bool:
    return 0 < value < math.inf


def _is_not_negative(value) -> bool:
    return 0 <= value < math.inf


def _is_fraction(value) -> bool:
    return 0 <= value < 1


# key: (whether a value can work, what it must be)
_VALUES = {
    "seed": (_is_seed, "an integer from 0 to 2**32 - 1"),
    "model.dropout": (_is_fraction, "0 (off) or a share below 1, e.g. 0.5"),
    "resize": (_is_size, "0 (as it is), the shorter side in pixels, or (height, width)"),
    "cache_gb": (_is_not_negative, "0 (off) or more"),
    "accumulate": (_is_count, "1 (off) or more"),
    "ema": (_is_fraction, "0 (off) or a decay below 1, e.g. 0.999"),
    "temperature": (_is_positive, "above 0"),
    "optimizer.learning_rate": (_is_positive, "above 0"),
    "optimizer.weight_decay": (_is_not_negative, "0 (off) or more"),
    "optimizer.b1": (_is_fraction, "at least 0 and below 1"),
    "optimizer.b2": (_is_fraction, "at least 0 and below 1"),
    "optimizer.eps": (_is_positive, "above 0"),
    "optimizer.grad_clip_norm": (_is_not_negative, "0 (off) or more"),
    "optimizer.grad_skip_norm": (_is_not_negative, "0 (off) or more"),
}


def check_values(config: ConfigDict) -> None:
    """Refuse values, durations, names and patterns that cannot work; keys that the config does not have are left out.

    Raises:
      ConfigError: with the key and what it must be.
    """
    there = traverse_util.flatten_dict(config.to_dict(), sep=".")
    for key, allowed in _CHOICES.items():
        if key in there and there[key] not in allowed:
            raise ConfigError(f'config.{key}="{there[key]}" must be one of {", ".join(allowed)}')
    for key, (can_work, wanted) in _VALUES.items():
        if key in there and not _holds(can_work, there[key]):
            raise ConfigError(f"config.{key}={there[key]} must be {wanted}")
    parse_duration(config.total, "total", least=1, percent=False)
    for key in ("log_every", "eval_every", "save_every"):
        parse_duration(config[key], key, least=1)
    for key in ("schedule.warmup", "schedule.half_period"):
        parse_duration(there.get(key, "0 steps"), key)
    for duration in there.get("schedule.drops", ()):
        parse_duration(duration, "schedule.drops")
    schedule = optim.make_schedule(config.schedule.name, config.optimizer.learning_rate, total=1)
    optim.make_optimizer(config.optimizer, schedule)
    optim.split_frozen({}, there.get("frozen", ()))
    if "loss" in there:
        parse_loss(config.loss)


def _holds(can_work, value) -> bool:
    try:
        return can_work(value)
    except TypeError:  # a config file may say anything, e.g. "1e-3" for 1e-3
        return False
