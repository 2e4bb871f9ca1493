"""Optimisers, learning-rate schedules and frozen parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from jaxiqa.errors import ConfigError, suggest

SCHEDULES = ("constant", "cosine", "cosine_wave", "steps")
OPTIMIZERS = ("adam", "adamw")


def make_schedule(
    name: str, learning_rate: float, *, total: int, warmup: int = 0, half_period: int = 30, drops: tuple[int, ...] = ()
):
    """The learning rate as a function of the step.

    Args:
      name: "constant"; "cosine": one decay to 0 over the run; "cosine_wave": oscillates between learning_rate and 0,
        with a half-wave every `half_period` steps, as PyTorch's CosineAnnealingLR does if it is stepped each iteration
        (GlintIQA's public code: 30); "steps": divided by ten at each of `drops`.
      learning_rate: the peak.
      total: steps of the run.
      warmup: steps of linear warm-up from 0 (not with "cosine_wave").

    Raises:
      ConfigError: an unknown name, or a duration that is not possible.
    """
    if name not in SCHEDULES:
        raise ConfigError(
            f'config.schedule.name: there is no schedule "{name}"; {suggest(name, SCHEDULES)}',
            code="unknown",
            key="config.schedule.name",
        )
    if name == "cosine_wave":
        if warmup or half_period < 1:
            raise ConfigError(
                "config.schedule: cosine_wave needs warmup=0 and a half_period of at least 1 step",
                code="conflict",
                key="config.schedule",
            )
        return lambda step: 0.5 * learning_rate * (1 + jnp.cos(jnp.pi * step / half_period))
    if warmup >= total:
        raise ConfigError(
            f"config.schedule.warmup: {warmup} steps of warm-up do not fit into a run of {total} steps; use fewer",
            code="conflict",
            key="config.schedule.warmup",
        )
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, total - warmup),
        "steps": lambda: optax.piecewise_constant_schedule(learning_rate, {at - warmup: 0.1 for at in drops}),
    }[name]()
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), main], [warmup])


def schedule_of(config, total: int, steps):
    """make_schedule() for a config. `steps` is to_steps() with the batch size and the examples of the run."""
    schedule = config.schedule
    return make_schedule(
        schedule.name,
        config.optimizer.learning_rate,
        total=total,
        warmup=steps(schedule.warmup, "schedule.warmup", total=total),
        half_period=steps(schedule.get("half_period", "30 steps"), "schedule.half_period", total=total),
        drops=tuple(steps(at, "schedule.drops", total=total) for at in schedule.get("drops", ())),
    )


def make_optimizer(config, schedule) -> optax.GradientTransformation:
    """The optimiser of `config.optimizer`, for a flat {path: array} dict of trainable parameters.

    "adam" adds weight decay to the gradient (L2, as torch.optim.Adam does); "adamw" decouples it. Both decay only
    parameters whose path matches the regular expression `decay_on`. `lr_multipliers` are pairs of a regular expression
    and a factor. The first one that matches a path scales all steps of the parameter, including decoupled decay.

    Raises:
      ConfigError: an unknown optimiser, or an invalid regular expression.
    """
    if config.name not in OPTIMIZERS:
        raise ConfigError(
            f'config.optimizer.name: there is no optimizer "{config.name}"; {suggest(config.name, OPTIMIZERS)}',
            code="unknown",
            key="config.optimizer.name",
        )
    decayed = _pattern(config.decay_on, "optimizer.decay_on")
    decay = optax.add_decayed_weights(
        config.weight_decay, mask=lambda params: {path: bool(decayed.search(path)) for path in params}
    )
    adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps)
    return optax.chain(
        optax.clip_by_global_norm(config.grad_clip_norm) if config.grad_clip_norm else optax.identity(),
        *((decay, adam) if config.name == "adam" else (adam, decay)),
        optax.scale_by_learning_rate(schedule),
        optax.stateless(lambda updates, _: {p: _factor(p, config.lr_multipliers) * u for p, u in updates.items()})
        if config.lr_multipliers
        else optax.identity(),
    )


def _factor(path: str, multipliers) -> float:
    return next((factor for pattern, factor in multipliers if re.search(pattern, path)), 1.0)


def lr_report(trainable: dict, multipliers) -> str:
    """One line of text: how many tensors of the flat dict each learning-rate multiplier scales; "" if there is none.

    Raises:
      ConfigError: a malformed pair, or a regular expression that is the first match of no trainable parameter.
    """
    found = []
    for pair in multipliers:
        if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], int | float) or pair[1] < 0:
            raise ConfigError(
                f'config.optimizer.lr_multipliers: {pair!r} must be ("regular expression", factor >= 0)',
                code="value",
                key="config.optimizer.lr_multipliers",
            )
        _pattern(pair[0], "optimizer.lr_multipliers")
        first = {path: next((m for m in multipliers if re.search(m[0], path)), None) for path in trainable}
        count = sum(m is pair for m in first.values())
        if not count:
            raise ConfigError(
                f"config.optimizer.lr_multipliers: {pair[0]!r} is the first match of no trainable parameter; "
                f"paths of trainable parameters begin with {', '.join(sorted({p.split('/')[0] for p in trainable}))}",
                code="unknown",
                key="config.optimizer.lr_multipliers",
            )
        found.append(f"{pair[1]:g} x for {count} tensors ({pair[0]})")
    return "learning rate: " + ", ".join(found) if found else ""


def _pattern(text: str, key: str) -> re.Pattern:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(
            f"config.{key}: {text!r} is not a regular expression: {error}", code="value", key=f"config.{key}"
        ) from error


def split_frozen(params: dict, frozen: tuple[str, ...]) -> tuple[dict, dict]:
    """(trainable, frozen) flat {path: array} dicts. A path is frozen if a regular expression in `frozen` matches it.

    Gradients are taken for the trainable dict only, which saves the backward pass of frozen parts.

    Raises:
      ConfigError: an invalid regular expression.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    patterns = [_pattern(text, "frozen") for text in frozen]
    is_frozen = {path: any(pattern.search(path) for pattern in patterns) for path in flat}
    return {p: x for p, x in flat.items() if not is_frozen[p]}, {p: x for p, x in flat.items() if is_frozen[p]}


def merge(trainable: dict, frozen: dict) -> dict:
    """The inverse of split_frozen: one tree from two flat dicts. The second one wins if both have a path."""
    return traverse_util.unflatten_dict({**trainable, **frozen}, sep="/")


def freeze_report(params: dict, frozen: tuple[str, ...]) -> str:
    """One line of text: how many parameters are trained, and how many are frozen by which regular expressions.

    Raises:
      ConfigError: a regular expression matches no parameter, or all parameters are frozen.
    """
    trainable, held = split_frozen(params, frozen)
    count = lambda tree: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))  # noqa: E731
    for pattern in frozen:
        if not any(re.search(pattern, path) for path in held):
            paths = ", ".join(sorted(params))
            raise ConfigError(
                f"config.frozen: {pattern!r} matches no parameter; paths of parameters begin with {paths}",
                code="unknown",
                key="config.frozen",
            )
    if not trainable:
        raise ConfigError(
            "config.frozen: all parameters are frozen; leave some to train", code="empty", key="config.frozen"
        )
    return f"{count(trainable):,} of {count(params):,} parameters train" + (
        f"; frozen: {count(held):,} in {len(held)} tensors ({', '.join(frozen)})" if held else ""
    )
