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
    """Learning rate as a function of the step.

    Args:
      name: "constant"; "cosine": one decay to 0 over the run; "cosine_wave": between learning_rate and 0 for ever, with
        a half-wave every `half_period` steps, which is what stepping PyTorch's CosineAnnealingLR each iteration does
        (GlintIQA's public code: 30); "steps": a tenth of the rate before at each of `drops`.
      learning_rate: the peak.
      total: steps of the run.
      warmup: steps of linear warm-up from 0 (not with "cosine_wave").
      half_period: see "cosine_wave".
      drops: see "steps".

    Raises:
      ConfigError: unknown name, or a duration that cannot be.
    """
    if name not in SCHEDULES:
        raise ConfigError(f'config.schedule.name: there is no schedule "{name}"; {suggest(name, SCHEDULES)}')
    if name == "cosine_wave":
        if warmup or half_period < 1:
            raise ConfigError("config.schedule: cosine_wave takes no warm-up and a half_period of at least 1 step")
        return lambda step: 0.5 * learning_rate * (1 + jnp.cos(jnp.pi * step / half_period))
    if warmup >= total:
        raise ConfigError(f"config.schedule.warmup: {warmup} steps of warm-up do not fit a run of {total}")
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, total - warmup),
        "steps": lambda: optax.piecewise_constant_schedule(learning_rate, {at - warmup: 0.1 for at in drops}),
    }[name]()
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), main], [warmup])


def schedule_of(config, total: int, steps):
    """make_schedule() of what a config says; `steps` is to_steps() with the run's batch size and examples."""
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
    """The optimiser of `config.optimizer`, over a flat {path: array} dict of trainable parameters.

    "adam" adds weight decay to the gradient (L2, as torch.optim.Adam does); "adamw" decouples it. Both decay only
    parameters whose path matches the regular expression `decay_on`. `lr_multipliers` are pairs of a regular expression
    and a factor; the first that matches a path scales all of its steps, the decoupled decay included.

    Raises:
      ConfigError: unknown optimiser, or no regular expression.
    """
    if config.name not in OPTIMIZERS:
        raise ConfigError(
            f'config.optimizer.name: there is no optimizer "{config.name}"; {suggest(config.name, OPTIMIZERS)}'
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
    """One line for people: how many of the flat dict's tensors each learning-rate multiplier scales; "" for none.

    Raises:
      ConfigError: a malformed pair, or a pattern that no trainable parameter matches first.
    """
    found = []
    for pair in multipliers:
        if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], int | float) or pair[1] < 0:
            raise ConfigError(f'config.optimizer.lr_multipliers: {pair!r} is no ("regular expression", factor >= 0)')
        _pattern(pair[0], "optimizer.lr_multipliers")
        first = {path: next((m for m in multipliers if re.search(m[0], path)), None) for path in trainable}
        count = sum(m is pair for m in first.values())
        if not count:
            raise ConfigError(
                f"config.optimizer.lr_multipliers: {pair[0]!r} matches no trainable parameter, or none that an earlier "
                f"one does not; their paths begin with {', '.join(sorted({p.split('/')[0] for p in trainable}))}"
            )
        found.append(f"{pair[1]:g} x for {count} tensors ({pair[0]})")
    return "learning rate: " + ", ".join(found) if found else ""


def _pattern(text: str, key: str) -> re.Pattern:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"config.{key}: {text!r} is no regular expression: {error}") from error


def split_frozen(params: dict, frozen: tuple[str, ...]) -> tuple[dict, dict]:
    """(trainable, frozen) flat {path: array} dicts; frozen are the paths that a regular expression in `frozen` matches.

    Gradients are taken for the first only, so nothing is computed backwards that only frozen parameters need.

    Raises:
      ConfigError: no regular expression.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    patterns = [_pattern(text, "frozen") for text in frozen]
    is_frozen = {path: any(pattern.search(path) for pattern in patterns) for path in flat}
    return {p: x for p, x in flat.items() if not is_frozen[p]}, {p: x for p, x in flat.items() if is_frozen[p]}


def merge(trainable: dict, frozen: dict) -> dict:
    """The inverse of split_frozen: one tree of two flat dicts; what is in both is taken from the second."""
    return traverse_util.unflatten_dict({**trainable, **frozen}, sep="/")


def freeze_report(params: dict, frozen: tuple[str, ...]) -> str:
    """One line for people: how much trains and what each pattern freezes.

    Raises:
      ConfigError: a pattern that matches nothing, or nothing left to train.
    """
    trainable, held = split_frozen(params, frozen)
    count = lambda tree: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))  # noqa: E731
    for pattern in frozen:
        if not any(re.search(pattern, path) for path in held):
            paths = ", ".join(sorted(params))
            raise ConfigError(f"config.frozen: {pattern!r} matches no parameter; their paths begin with {paths}")
    if not trainable:
        raise ConfigError("config.frozen: nothing is left to train")
    return f"{count(trainable):,} of {count(params):,} parameters train" + (
        f"; frozen: {count(held):,} in {len(held)} tensors ({', '.join(frozen)})" if held else ""
    )
