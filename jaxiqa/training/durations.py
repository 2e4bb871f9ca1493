"""Durations in any unit: "3000 steps", "20 epochs", "1e6 examples", "3 percent" (of the whole run)."""

import math
import re

from jaxiqa.errors import ConfigError

_UNITS = ("steps", "epochs", "examples", "percent")
_MOST = 2**31 - 1  # the state counts steps in int32


def parse_duration(duration: str, key: str, least: int = 0, percent: bool = True) -> tuple[float, str]:
    """The number and the unit of a duration. The unit is "steps" if none is written.

    Args:
      duration, key, least: as in to_steps.
      percent: whether the unit "percent" is allowed.

    Raises:
      ConfigError: it is not a duration, infinite, 0 although `least` is 1, or in percent although that is not allowed.
    """
    match = re.fullmatch(r"\s*([0-9]+\.?[0-9]*(?:e[0-9]+)?)\s*([a-z]*)\s*", str(duration))
    units = [u for u in _UNITS if u.rstrip("s") == (match[2] or "steps").rstrip("s")] if match else []
    if not units or (units == ["percent"] and not percent):
        allowed = ", ".join(u for u in _UNITS if u != "percent" or percent)
        raise ConfigError(
            f'config.{key}: "{duration}" is not a duration; write a number and one of {allowed}',
            code="value",
            key=f"config.{key}",
        )
    number = float(match[1])
    if least and not number:
        raise ConfigError(f'config.{key}: "{duration}" must be above 0', code="value", key=f"config.{key}")
    if math.isinf(number):
        raise ConfigError(_too_long(key, duration), code="value", key=f"config.{key}")
    return number, units[0]


def to_steps(
    duration: str, key: str, *, batch_size: int, examples: int, total: int | None = None, least: int = 0
) -> int:
    """The optimiser steps of a duration, rounded to the nearest integer, but at least `least`.

    An epoch is examples / batch_size steps: its last partial batch is not dropped, but completed from the next epoch.

    Args:
      duration: a number and a unit; a bare number means steps.
      key: the config key without "config.", for the message.
      batch_size: global batch size.
      examples: training examples in an epoch.
      total: steps of the whole run, which "percent" refers to.
      least: 1 if the duration must not be 0.

    Raises:
      ConfigError: as parse_duration, or more steps than a run can count.
    """
    number, unit = parse_duration(duration, key, least, percent=total is not None)
    per_unit = {"steps": 1, "epochs": examples / batch_size, "examples": 1 / batch_size, "percent": (total or 0) / 100}
    steps = number * per_unit[unit]
    if steps > _MOST:
        raise ConfigError(_too_long(key, duration), code="value", key=f"config.{key}")
    return max(least, round(steps))


def _too_long(key: str, duration: str) -> str:
    return f'config.{key}: "{duration}" is too long; it must be {_MOST:,} steps or fewer'
