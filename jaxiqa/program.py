"""How every program starts and ends: flags, one-line errors, exit codes (see jaxiqa/errors.py)."""

import difflib
import functools
import os
import re
import runpy
import signal
import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxiqa.errors import ConfigError, UserError, exit_code_of, full_disk, is_out_of_memory, suggest
from jaxiqa.runs.signals import hang_ups

flags.DEFINE_bool("debug", False, "Show the full traceback of an error.")

_RUN = ("override", "allow_restart")
_CLUSTER = ("coordinator", "num_processes", "process_id", "peer_timeout", "multihost")
_KEYS = {  # what each program's configs must have
    "train": (
        *("seed", "model.name", "model.variant", "init", "dtype", "frozen", "frozen_bn", "dataset.name", "split"),
        *("labels", "resize", "cache_gb", "batch_size", "total", "accumulate", "ema", "loss", "skip_nonfinite"),
        *("test_crops", "eval_batch_size", "log_every", "eval_every", "save_every", "mesh"),
    ),
    "pretrain": (
        *("seed", "pictures", "probe_pictures", "model.name", "model.variant", "projector", "init", "dtype"),
        *("label_mode", "temperature", "cache_gb", "batch_size", "total", "skip_nonfinite", "eval_batch_size"),
        *("log_every", "eval_every", "save_every", "mesh"),
    ),
}
_OPTIMISER = (
    *(f"optimizer.{key}" for key in ("name", "learning_rate", "weight_decay", "decay_on", "b1", "b2", "eps")),
    *("optimizer.grad_clip_norm", "optimizer.grad_skip_norm", "optimizer.lr_multipliers"),
    *("schedule.name", "schedule.warmup"),
)
_HELP = {"-?", "-h", "--help", "--helpshort", "--helpfull", "--helpxml"}


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a program in order, as Ctrl-C does."""

    exit_code = 143


def run(main: Callable[..., None], takes_arguments: bool = False) -> None:
    """Parse the command line, call main(), exit with the documented code; for `if __name__ == "__main__"`.

    With `takes_arguments`, main receives the list of words that are no flags; otherwise such a word is refused.
    """
    for name in {"debug", "config", "workdir", *_RUN, *_CLUSTER} & set(flags.FLAGS):  # so that --help shows them
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    call = (lambda argv: main(argv[1:])) if takes_arguments else (lambda _: main())
    app.run(lambda argv: _guarded(lambda: call(argv)), flags_parser=lambda argv: _parse(argv, takes_arguments))


@functools.cache
def training_flags() -> tuple:
    """Flags of the programs that train, defined once however many of them a process imports.

    They are --config, --workdir, --override and --allow_restart.
    """
    config = config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/glintiqa_sample.py[:smoke].")
    workdir = flags.DEFINE_string("workdir", None, "Folder of the run; is made, or gone on in.")
    override = flags.DEFINE_bool("override", False, "Go on with another optimizer, schedule, loss or total.")
    restart = flags.DEFINE_bool("allow_restart", False, "Train anew where every checkpoint of the run is damaged.")
    return config, workdir, override, restart


@functools.cache
def cluster_flags() -> Callable[[], dict]:
    """The flags of a run in many processes, defined once; the function that is returned gives their values."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 of a run of many processes.")
    flags.DEFINE_integer("num_processes", None, "How many processes the run has.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which process of the run this is, from 0.", lower_bound=0)
    flags.DEFINE_float("peer_timeout", 300.0, "Seconds to wait for the other processes of the run.", lower_bound=1.0)
    flags.DEFINE_bool("multihost", False, "The run is of many processes: of Slurm, Open MPI or a Cloud TPU slice.")
    return lambda: {name: flags.FLAGS[name].value for name in _CLUSTER}


def read_config(flag, *programs: str) -> ConfigDict:
    """The value of a config-file flag, which must have the keys of one of these programs' configs (train, pretrain).

    Raises:
      ConfigError: the file cannot be read, says something impossible, lacks keys or is another program's.
    """
    try:
        config = flag.value
        if config is None:
            raise ConfigError(f"--{flag.name} is missing; give a config file, e.g. --config configs/glintiqa_sample.py")
        config.to_dict()
    except OSError as error:
        reason = str(error).strip().splitlines()[-1].strip()  # the lines before it list where it was looked for
        raise ConfigError(f"--{flag.name} cannot be read: {reason}") from error
    there = set(_dotted(config.to_dict()))
    missing = {name: [key for key in (*keys, *_OPTIMISER) if key not in there] for name, keys in _KEYS.items()}
    if all(missing[name] for name in programs):
        if whose := [name for name in missing if not missing[name]]:
            raise ConfigError(f"--{flag.name} is a config of python -m jaxiqa.{whose[0]}")
        keys = ", ".join(min((missing[name] for name in programs), key=len))
        raise ConfigError(f"--{flag.name} has no {keys}; configs/ has examples")
    return config


def _guarded(main):
    for number in (signal.SIGTERM, *hang_ups()):
        signal.signal(number, _terminate)
    try:
        with full_disk("a file"):
            main()
    except KeyboardInterrupt as error:
        sys.unraisablehook = lambda _: None  # an object that was half made complains as it is dropped
        sys.exit(report(error))
    except BrokenPipeError:  # whoever read standard output has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if flags.FLAGS.debug or not _said(error):
            raise
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Print an error that ends the program: one line, of a bug or with --debug a traceback. Gives the exit code."""
    message = "" if flags.FLAGS.debug else _said(error)
    sys.stdout.flush()
    if message:
        # Notes such as where unfinished work is; those of several lines are Grain's, about tracebacks.
        _tell("; ".join((message, *(note for note in getattr(error, "__notes__", ()) if "\n" not in note))))
    else:
        traceback.print_exception(error)
    return exit_code_of(error)


def _tell(message: str) -> None:
    print(f"{_name()}: {message}", file=sys.stderr)


def _name() -> str:
    folder, file = os.path.split(sys.argv[0])
    return os.path.basename(folder) if file == "__main__.py" else file


def _said(error: BaseException) -> str:
    """What the user is told of an error; "" for a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, _Terminated) else "interrupted"
    if isinstance(error, UserError):
        return str(error)
    if not is_out_of_memory(error):
        return ""
    wanted = re.search(r"allocat\w* ([\d.]+ ?[KMGT]?i?B|\d+ bytes)", str(error))  # XLA adds a page of buffers
    return (
        f"the device has too little memory{f' ({wanted[1]} more were wanted)' if wanted else ''}; reduce batch_size, "
        "and in training raise config.accumulate or take config.dtype=bfloat16"
    )


def _terminate(*_):
    raise _Terminated


def _parse(argv, takes_arguments):
    try:
        rest = flags.FLAGS(argv)
    except SystemExit:
        sys.exit(0 if _HELP & set(argv) else 2)
    except flags.Error as error:
        lines = str(error).strip().splitlines()  # of an error inside a config file: what, a traceback, why
        message = lines[0] if len(lines) == 1 else f"{lines[0].rstrip(':')}: {lines[-1]}"
        unknown = re.search(r"Unknown command line flag '([^'.]+)\.", message)
        if unknown and unknown[1] == "config":  # which protocol takes as a list of files
            message += "; options of training are written after --"
        elif unknown:
            message += f"; {suggest(unknown[1], list(flags.FLAGS))}"
        if "Missing value" in message:
            message += f"; see {_name()} --help"
    except Exception as error:  # raised by a config's overrides, or by whatever the config file runs
        if "--debug" in argv:
            raise
        message = _explain(argv, error)
    else:
        if len(rest) == 1 or takes_arguments:
            if not flags.FLAGS["verbosity"].present:
                flags.FLAGS.verbosity = logging.WARNING  # libraries report every save at INFO
            return rest
        message = f"unexpected argument {rest[1]!r}; options are written --name=value, see --help"
    _tell(message)
    sys.exit(2)


def _explain(argv, error: Exception) -> str:
    """Name the override that a config refused, with the nearest key there is."""
    given = re.search(r"(?:^|\0)--?config[=\0]([^\0:]+):?([^\0]*)", "\0".join(argv))
    try:
        known = _dotted(runpy.run_path(given[1])["get_config"](given[2]).to_dict())
    except Exception:  # the config file itself failed, which is what `error` says
        return f"--config {given[1]}: {config_error(given[1], error)}" if given else f"--config: {error}"
    for arg in argv[1:]:
        key = re.match(r"--?config\.([^=]+)", arg)
        if key and key[1] not in known:
            return f"--config.{key[1]}: there is no such key; {_suggest(key[1], known)}"
    return str(error)


def config_error(path: str, error: Exception) -> str:
    """What an exception of a config file says, with its line in that file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(path)]
    where = "" if isinstance(error, SyntaxError) or not lines else f" (line {lines[-1]})"  # which says it itself
    return f"{type(error).__name__}: {error}{where}"


def _suggest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1, cutoff=0.7)
    if not near:  # the right key with the wrong parents
        last = {name.split(".")[-1]: name for name in known}
        near = [last[n] for n in difflib.get_close_matches(key.split(".")[-1], last, 1)]
    return suggest(near[0] if near else key, known)


def _dotted(tree: dict, prefix: str = "") -> list[str]:
    keys = []
    for name, value in tree.items():
        keys += [prefix + name, *(_dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else ())]
    return keys
