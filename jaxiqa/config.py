"""The table of all config keys: default, check, the tasks that read a key, and whether a resumed run may change it.

A config file sets only the keys that differ from the defaults:

  from jaxiqa.config import default_config

  def get_config(arg=""):
      c = default_config("quality")
      c.model = dict(name="glintiqa", variant="test")
      c.dataset.name = "sample"
      return c

`load` runs such a file and adds the defaults of all keys that its config lacks. get_config may also return a plain
dict. The sections `model`, `dataset` and `init` may have further keys. The model or the dataset reader declares these
keys and refuses unknown ones.
"""

import math
import os
import pathlib
import re
import runpy
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxiqa.errors import ConfigError, UserError, nearest, read_code, suggest

PROGRAMS = {"quality": "train", "contrastive": "pretrain"}  # the program of each task
QUALITY, CONTRASTIVE, BOTH = ("quality",), ("contrastive",), ("quality", "contrastive")

# Whether a resumed run may change a key.
FREE = "free"  # the key affects reports or the use of hardware, not what the run learns
OVERRIDE = "with --override"  # the key affects how the run learns from this step on
TUNED = "with --override, but not from 0 or to 0"  # the same, and the state has arrays for the key unless it is 0
MOVED = "if the data are the same"  # the key says where the data are, whose fingerprints are compared
NEVER = "never"  # the key defines the model, the training data or their order; the checkpoint depends on these


class Check(NamedTuple):
    """How a value is checked, and the description of valid values in the error. Other modules may check it further."""

    can_work: Callable[[Any], bool]
    must_be: str


class Key(NamedTuple):
    """A row of KEYS. `comment` documents the key; `tasks` are the tasks that read it."""

    default: Any
    check: Check
    resume: str
    tasks: tuple[str, ...]
    comment: str


def _one_of(*names: str) -> Check:
    return Check(lambda value: value in names, f"one of {', '.join(names)}")


def _is_size(value) -> bool:
    if isinstance(value, int):
        return value >= 0
    return len(value) == 2 and all(isinstance(side, int) and side > 0 for side in value)


_SEED = Check(lambda v: isinstance(v, int) and 0 <= v < 2**32, "an integer from 0 to 2**32 - 1")
_INTEGER = Check(lambda v: isinstance(v, int), "an integer")
_COUNT = Check(lambda v: isinstance(v, int) and v >= 1, "an integer of at least 1")
_PARTS = Check(lambda v: isinstance(v, int) and v >= 1, "1 (off) or more")
_AXIS = Check(lambda v: isinstance(v, int) and (v == -1 or v >= 1), "-1 or a number of devices")
_SIZE = Check(_is_size, "0 (off), the shorter side in pixels, or (height, width)")
_POSITIVE = Check(lambda v: 0 < v < math.inf, "above 0")
_OR_OFF = Check(lambda v: 0 <= v < math.inf, "0 (off) or more")
_MOMENT = Check(lambda v: 0 <= v < 1, "at least 0 and below 1")
_DECAY = Check(lambda v: 0 <= v < 1, "0 (off) or a decay below 1, e.g. 0.999")
_SHARE = Check(lambda v: 0 <= v < 1, "0 (off) or a share below 1, e.g. 0.5")
_BOOL = Check(lambda v: isinstance(v, bool), "True or False")
_TEXT = Check(lambda v: isinstance(v, str), "a string")
_TEXTS = Check(lambda v: not isinstance(v, str) and all(isinstance(t, str) for t in v), "a tuple of strings")
_PAIRS = Check(lambda v: not isinstance(v, str) and iter(v) is not None, "a tuple of pairs")
_DURATIONS = Check(
    lambda v: not isinstance(v, str) and all(isinstance(t, str | int | float) for t in v), "a tuple of durations"
)
_DURATION = Check(lambda v: isinstance(v, str | int | float), "a duration")  # parsed by training.durations

# A duration is a number with a unit: steps, epochs, examples or percent. A pattern is a regular expression that is
# searched in the paths of parameters. In lr_multipliers, the first pattern that matches a path applies.
KEYS = {
    # run
    "seed": Key(0, _SEED, NEVER, BOTH, "seed of the order of images, augmentation, dropout and initial parameters"),
    "dtype": Key(
        "float32", _one_of("float32", "bfloat16"), OVERRIDE, BOTH, "dtype of the computation; parameters stay float32"
    ),
    "mesh.data": Key(-1, _AXIS, FREE, BOTH, "size of the axis that splits batches only; -1: all remaining devices"),
    "mesh.fsdp": Key(1, _AXIS, FREE, BOTH, "size of the axis that also splits the state; -1: all remaining devices"),
    # model
    "model.name": Key("", _TEXT, NEVER, BOTH, "name of the model, e.g. glintiqa"),
    "model.variant": Key("", _TEXT, NEVER, BOTH, "variant of the model; empty: its first variant"),
    "init.model": Key(
        "",
        _TEXT,
        NEVER,
        QUALITY,
        "checkpoint, or ready, that initialises the whole model; other keys of init: one part each",
    ),
    "init.encoder": Key("", _TEXT, NEVER, CONTRASTIVE, "checkpoint that initialises the encoder"),
    "frozen": Key((), _TEXTS, NEVER, BOTH, 'patterns of parameters that are not trained, e.g. ("^encoder/layer1",)'),
    "frozen_bn": Key(
        "eval",
        _one_of("eval", "train"),
        NEVER,
        QUALITY,
        "statistics that frozen BatchNorms use: eval (running statistics) | train (those of the batch)",
    ),
    "projector.hidden": Key(
        2048, _COUNT, NEVER, CONTRASTIVE, "hidden width of the projector, which only pretraining uses"
    ),
    "projector.features": Key(128, _COUNT, NEVER, CONTRASTIVE, "number of outputs of the projector"),
    # images
    "dataset.name": Key(
        "", _TEXT, NEVER, QUALITY, "name of the dataset, e.g. kadid10k; other keys of dataset: its options"
    ),
    "dataset.data_dir": Key(
        "", _TEXT, MOVED, QUALITY, "folder of the dataset: the original files, or the output of jaxiqa prepare"
    ),
    "split.round": Key(1, _INTEGER, NEVER, QUALITY, "number of the random split; each number gives another split"),
    "split.selection": Key(
        "val",
        _one_of("val", "legacy"),
        NEVER,
        QUALITY,
        "part that selects the best step: val | legacy (the test part; validation images are trained on)",
    ),
    "split.file": Key("", _TEXT, MOVED, QUALITY, "file of a published split, used instead of a random one"),
    "labels": Key(
        "score01",
        _one_of("score01", "native"),
        NEVER,
        QUALITY,
        "scale of training labels: score01 (0..1, higher is better) | native",
    ),
    "pictures": Key("", _TEXT, MOVED, CONTRASTIVE, "folder of pristine images, searched with all its subfolders"),
    "probe_pictures": Key(60, _INTEGER, NEVER, CONTRASTIVE, "number of images held out for the linear probe"),
    "probe_photographs": Key(
        "",
        _TEXT,
        FREE,
        QUALITY,
        "folder of undistorted photographs, 4 or more, for a probe at the end (score --explain); empty: none",
    ),
    "bank": Key("", _TEXT, NEVER, CONTRASTIVE, "module that defines the distortions, e.g. mylab.bank; empty: ARNIQA's"),
    "label_mode": Key(
        "type_level",
        _TEXT,
        NEVER,
        CONTRASTIVE,
        "what makes two crops a positive pair: the same type_level | type | instance (distorted image)",
    ),
    "resize": Key(
        0, _SIZE, NEVER, QUALITY, "size that images are resized to: shorter side in pixels, or (height, width); 0: off"
    ),
    "crops_per_image": Key(
        1,
        _COUNT,
        NEVER,
        QUALITY,
        "number of crops of each image in a batch; more save decoding and distorting, but a batch has fewer images",
    ),
    "crop": Key("random", _one_of("random", "centre"), NEVER, BOTH, "position of a training crop in its image"),
    "flip_horizontal": Key(True, _BOOL, NEVER, BOTH, "mirror training crops left-right, with probability 1/2"),
    "flip_vertical": Key(True, _BOOL, NEVER, BOTH, "mirror training crops top-down, with probability 1/2"),
    "cache_gb": Key(8.0, _OR_OFF, FREE, BOTH, "memory for decoded images, in GiB for each part of the split; 0: off"),
    # learning
    "batch_size": Key(32, _INTEGER, NEVER, BOTH, "number of crops in a batch, over all devices and hosts"),
    "total": Key("50 epochs", _DURATION, OVERRIDE, BOTH, "duration of the run: N steps | epochs | examples"),
    "accumulate": Key(1, _PARTS, OVERRIDE, BOTH, "number of parts of a batch whose gradients are accumulated; 1: off"),
    "ema": Key(
        0.0,
        _DECAY,
        TUNED,
        BOTH,
        "decay of the moving average of the parameters, which is used for scoring; 0.999: about 1000 steps; 0: off",
    ),
    "loss": Key(
        "l1",
        _TEXT,
        OVERRIDE,
        QUALITY,
        "loss: l1 | l2 | huber | plcc | rank | gaussian | emd, or a sum, e.g. l1+0.5*plcc",
    ),
    "temperature": Key(0.1, _POSITIVE, OVERRIDE, CONTRASTIVE, "temperature of the contrastive loss"),
    "skip_nonfinite": Key(False, _BOOL, OVERRIDE, BOTH, "skip a step whose loss or gradient is NaN or infinite"),
    "optimizer.name": Key("adamw", _TEXT, NEVER, BOTH, "adamw: decoupled weight decay | adam: L2 regularisation"),
    "optimizer.learning_rate": Key(1e-4, _POSITIVE, OVERRIDE, BOTH, "learning rate at the peak of the schedule"),
    "optimizer.weight_decay": Key(1e-2, _OR_OFF, OVERRIDE, BOTH, "weight decay of parameters in decay_on; 0: off"),
    "optimizer.decay_on": Key("kernel$", _TEXT, OVERRIDE, BOTH, "pattern of parameters with weight decay; empty: all"),
    "optimizer.b1": Key(0.9, _MOMENT, OVERRIDE, BOTH, "decay of Adam's running mean of the gradient"),
    "optimizer.b2": Key(0.999, _MOMENT, OVERRIDE, BOTH, "decay of Adam's running mean of the squared gradient"),
    "optimizer.eps": Key(1e-8, _POSITIVE, OVERRIDE, BOTH, "epsilon of Adam"),
    "optimizer.grad_skip_norm": Key(0.0, _OR_OFF, OVERRIDE, BOTH, "skip a step with a larger gradient norm; 0: off"),
    "optimizer.grad_clip_norm": Key(1.0, _OR_OFF, OVERRIDE, BOTH, "scale gradients down to this norm; 0: off"),
    "optimizer.lr_multipliers": Key(
        (), _PAIRS, OVERRIDE, BOTH, 'pairs (pattern, factor of the learning rate), e.g. (("^head/", 10.0),)'
    ),
    "schedule.name": Key(
        "cosine", _TEXT, OVERRIDE, BOTH, "schedule of the learning rate: constant | cosine | cosine_wave | steps"
    ),
    "schedule.warmup": Key("3 percent", _DURATION, OVERRIDE, BOTH, "duration of the linear warm-up from 0"),
    "schedule.half_period": Key("30 steps", _DURATION, OVERRIDE, BOTH, "duration of half a period of cosine_wave"),
    "schedule.drops": Key(
        (), _DURATIONS, OVERRIDE, BOTH, "durations after which the schedule `steps` divides the learning rate by 10"
    ),
    # evaluation, log and checkpoints
    "test_crops": Key(
        "grid",
        _TEXT,
        OVERRIDE,
        QUALITY,
        "crops of an image: grid | overlap | five (centre, corners) | auto:N | random:N | whole (a patch model's grid)",
    ),
    "eval_batch_size": Key(128, _INTEGER, FREE, BOTH, "number of crops in a batch of evaluation"),
    "log_every": Key("50 steps", _DURATION, FREE, BOTH, "duration between two lines of the log"),
    "eval_every": Key("10 percent", _DURATION, FREE, BOTH, "duration between two evaluations"),
    "save_every": Key("10 percent", _DURATION, FREE, BOTH, "duration between two checkpoints"),
}
OPEN = ("model", "dataset", "init")  # sections with further keys, which the model or the dataset reader declares
# Model options that mean the same in every model that has them.
_OPTIONS = {"model.dropout": _SHARE}


def default_config(task: str) -> ConfigDict:
    """Returns all keys that a task reads ("quality" or "contrastive"), with their defaults."""
    config = ConfigDict()
    _fill(config, task)
    return config


def check_argument(arg: str, *known: str) -> None:
    """Raises ConfigError if a config file does not accept an argument. Call it in `get_config`."""
    if arg and arg not in known:
        listed = " or ".join([*(f'"{name}"' for name in known), "empty"])
        raise ConfigError(f'the argument must be {listed}, not "{arg}"', code="unknown", key="argument")


def complete(config: Mapping, task: str = "", where: str = "config") -> ConfigDict:
    """Returns a copy of a config with the defaults of all keys that it lacks.

    Args:
      config: a ConfigDict or a dict with some or all of the keys.
      task: the task, if no key of the config shows which task it is for; default "quality".
      where: name of the config in errors, e.g. its file.

    Raises:
      ConfigError: a key does not exist, or a section is not a dict.
    """
    if not isinstance(config, Mapping | ConfigDict):
        raise ConfigError(
            f"{where} must return a ConfigDict or a dict with keys of jaxiqa/config.py, not {config!r}",
            code="format",
            key=where,
        )
    try:
        config = ConfigDict(config)  # references stay references
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}", code="format", key=where) from error
    task = task_of(config) or task or "quality"
    keys = _keys(task)
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for name, value in config.items():
        if name in sections and not isinstance(value, ConfigDict):
            within = ", ".join(key for key in keys if key.startswith(f"{name}."))
            raise ConfigError(
                f"{where}: {name}={value!r} must be a dict; its keys are {within}", code="value", key=f"config.{name}"
            )
    there = _leaves(config)
    for key in there:
        if key not in keys and not (key.count(".") and key.partition(".")[0] in OPEN):
            whose = "" if key not in KEYS else f" of jaxiqa {PROGRAMS[task]}"
            raise ConfigError(
                f"{where}: there is no key {key}{whose}; {suggest_key(key, keys)}", code="unknown", key=f"config.{key}"
            )
    locked = config.is_locked
    with config.unlocked():
        _fill(config, task)
    return config.lock() if locked else config


def task_of(config: Mapping) -> str:
    """Returns the task of a config, "quality" or "contrastive"; "" if no key of the config shows it."""
    found = {task: sum(name in config for name in _alone(task)) for task in PROGRAMS}
    return max(found, key=found.get) if len(set(found.values())) > 1 else ""


def check(config: ConfigDict) -> None:
    """Checks values with the checks in KEYS. Names, durations and patterns are checked by the modules that use them.

    Raises:
      ConfigError: a value cannot work; the message says what it must be.
    """
    there = _leaves(config)
    for key, how in {**{key: known.check for key, known in KEYS.items()}, **_OPTIONS}.items():
        if key in there and not _holds(how, there[key]):
            value = there[key]
            shown = f'"{value}"' if how.must_be.startswith("one of") else value
            raise ConfigError(f"config.{key}={shown} must be {how.must_be}", code="value", key=f"config.{key}")


def may_change(key: str, before: Any, now: Any, override: bool) -> bool:
    """Whether a resumed run may have another value of a key; `override` is the value of the flag --override."""
    resume = KEYS[key].resume if key in KEYS else NEVER
    tuned = resume == TUNED and bool(before) == bool(now)
    return resume in (FREE, MOVED) or (override and (tuned or resume == OVERRIDE))


def default_of(key: str) -> Any:
    """The default of a key as JSON stores it; None if the key is declared by a model or a dataset reader."""
    if key.startswith("init."):
        return ""
    default = KEYS[key].default if key in KEYS else None
    return list(default) if isinstance(default, tuple) else default


def shipped() -> dict[str, pathlib.Path]:
    """The experiment files that come with the package, as {name: file}."""
    here = pathlib.Path(__file__).resolve().parent
    folder = next(f for f in (here / "configs", here.parent / "configs") if f.is_dir())  # a wheel, a checkout
    return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}


def find_file(text: str) -> tuple[str, str]:
    """The path and the argument of FILE.py, NAME, FILE.py:ARGUMENT or NAME:ARGUMENT; NAME is one of shipped().

    Raises:
      ConfigError: no experiment file has this name.
    """
    name, _, argument = text.partition(":")
    if name.endswith(".py") or os.path.basename(name) != name:
        return name, argument
    if name not in shipped():
        raise ConfigError(
            f"--config {name}: no experiment has this name (a file name ends in .py); {suggest(name, shipped())}",
            code="unknown",
            key="--config",
        )
    return str(shipped()[name]), argument


def run_file(text: str) -> tuple[dict[str, Any], str]:
    """Runs a config file. Returns what it defines, {name: value}, and the argument; `text` as for find_file.

    Raises:
      ConfigError: the file cannot be read, or its code fails.
    """
    path, argument = find_file(text)
    if os.path.isdir(path):  # runpy would look for a program in it
        raise ConfigError(f"--config {path} is a folder; name a file in it", code="format", key=path)
    try:
        return runpy.run_path(path), argument
    except OSError as error:
        name = pathlib.Path(path).stem
        hint = f"; for the experiment of this name write --config {name}" if name in shipped() else ""
        raise ConfigError(
            f"--config {path} cannot be read ({error.strerror or error}){hint}", code=read_code(error), key=path
        ) from error
    except Exception as error:  # the file may run any code
        raise ConfigError(f"--config {path}: {_describe(path, error)}", code="format", key=path) from error


def load(text: str, task: str = "") -> ConfigDict:
    """Returns the config of FILE.py[:ARGUMENT], or of the experiment NAME[:ARGUMENT], with all defaults.

    Args:
      text: as for find_file.
      task: as for complete.

    Raises:
      ConfigError: the file cannot be read or fails, or a key does not exist.
    """
    namespace, argument = run_file(text)
    path = find_file(text)[0]
    if "get_config" not in namespace:
        raise ConfigError(f"--config {path} does not define get_config(); define it", code="format", key=path)
    try:
        config = namespace["get_config"](*([argument] if ":" in text else []))
    except UserError as error:
        raise ConfigError(f"--config {path}: {error}", code=error.code, key=error.key) from error
    except Exception as error:
        raise ConfigError(f"--config {path}: {_describe(path, error)}", code="format", key=path) from error
    return complete(config, task, f"--config {path}")


def suggest_key(key: str, known: Iterable[str]) -> str:
    """Returns the hint for an unknown key, which may lack its section or have the wrong one."""
    known = list(known)
    last = {name.split(".")[-1]: name for name in known}
    near = nearest(key, known, 0.7) or last.get(nearest(key.split(".")[-1], last))
    return suggest(near or key, known)


def keys_like(word: str, tasks: Iterable[str] = ()) -> list[str]:
    """The keys that a flag of another program may stand for, such as batch-size, lr, model, num_epochs or data_root.

    In this order: the section of this name; the keys whose last part is the word, or has its letters as initials; the
    duration with this unit; the most similar key. `tasks` restricts the keys, if there are any.
    """
    word = word.lower().replace("-", "_")
    known = {name: key for name, key in KEYS.items() if not tasks or {*tasks} & {*key.tasks}}
    last = {name: name.rpartition(".")[2] for name in known}
    if f"{word}.name" in known:
        return [f"{word}.name"]
    initials = {name: "".join(part[0] for part in text.split("_")) for name, text in last.items() if "_" in text}
    start, _, unit = word.rpartition("_")
    durations = [name for name in known if known[name].check is _DURATION]
    for found in (
        [name for name in known if last[name] == word],
        [name for name in initials if initials[name] == word],
        [name for name in durations if last[name] == start]
        or [name for name in durations if unit in re.findall(r"\w+", known[name].comment)],
    ):
        if found:
            return found
    near = nearest(word, last.values(), 0.7)
    return [name for name in known if last[name] == near]


def dotted(config: ConfigDict) -> list[str]:
    """All keys of a config, sections included: model, model.name, ..."""
    leaves = _leaves(config)
    return [*leaves, *dict.fromkeys(key.rpartition(".")[0] for key in leaves if "." in key)]


def _keys(task: str) -> dict[str, Key]:
    return {name: key for name, key in KEYS.items() if task in key.tasks}


def _alone(task: str) -> set[str]:
    """Top-level keys that no other task reads."""
    first = {name: {key.partition(".")[0] for key in _keys(name)} for name in PROGRAMS}
    return first[task].difference(*(names for name, names in first.items() if name != task))


def _fill(config: ConfigDict, task: str) -> None:
    for name, key in _keys(task).items():
        section, _, last = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        part = config[section] if section else config
        if last not in part:
            part[last] = key.default


def _leaves(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns {dotted key: value}. A section within a section counts as a value."""
    found = {}
    for name, value in config.items():
        found |= _leaves(value, f"{name}.") if isinstance(value, ConfigDict) and not prefix else {prefix + name: value}
    return found


def _holds(how: Check, value) -> bool:
    try:
        return how.can_work(value)
    except TypeError:  # a value of another type, e.g. "1e-3" instead of 1e-3
        return False


def _describe(path: str, error: Exception) -> str:
    """The message of an exception in a config file, with its line in that file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(path)]
    where = "" if isinstance(error, SyntaxError) or not lines else f" (line {lines[-1]})"  # SyntaxErrors name it
    return f"{type(error).__name__}: {error}{where}"
