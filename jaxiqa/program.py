"""How every program starts and ends: flags, one-line errors, exit codes (see jaxiqa/errors.py).

At its top, a program imports only errors, what its flags need, and modules that do not import JAX. Its functions import
the rest. So --help and refused command lines do not wait for JAX.
"""

import codecs
import contextlib
import io
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from absl import app, flags, logging
from ml_collections import ConfigDict

from jaxiqa import config as configs
from jaxiqa import shared_flags
from jaxiqa.cli import MODULES
from jaxiqa.errors import ConfigError, UserError, exit_code_of, full_disk, is_out_of_memory, nearest
from jaxiqa.runs.signals import hang_ups

_FLAGS = flags.FlagValues()
flags.DEFINE_bool("debug", False, "Show the full traceback of an error.", flag_values=_FLAGS)

_HELP = {"-?", "-h", "--help", "--helpshort", "--helpfull", "--helpxml"}
_TYPES = {  # the start of Python's or absl's reason: what the value of a flag must be
    "invalid literal for int": "an integer",
    "could not convert string to float": "a number",
    "('Non-boolean argument": "true or false",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP; ends a program cleanly, as Ctrl-C does."""

    exit_code = 143


def run(
    main: Callable[..., None],
    own: flags.FlagValues | None = None,
    takes_arguments: bool = False,
) -> None:
    """Parses the command line, calls main() and exits with the documented code; for `if __name__ == "__main__"`.

    Args:
      main: the program.
      own: the flags of the program.
      takes_arguments: whether main receives the list of words that are not flags; if False, such words are refused.
    """
    _use_utf8()
    _open_streams()
    for values in (own or flags.FlagValues(), _FLAGS):
        for flag in {id(values[name]): values[name] for name in values}.values():
            flags.FLAGS[flag.name] = flag
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows it
            if hasattr(flag, "flag_values"):
                flag.flag_values = flags.FLAGS  # where --config defines a flag for each --config.key
        values.mark_as_parsed()
    call = (lambda argv: main(argv[1:])) if takes_arguments else (lambda _: main())
    app.run(lambda argv: _guarded(lambda: call(argv)), flags_parser=lambda argv: _parse(argv, takes_arguments))


def _use_utf8() -> None:
    """Starts the program again in the UTF-8 mode of Python if the locale has another encoding, as C and POSIX have.

    TensorStore reads and writes names of files as UTF-8 in any locale. Python 3.15 always has this mode.
    """
    if sys.executable and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _open_streams() -> None:
    """Opens the standard streams that are closed, and lets them write every character.

    In order, because a new file takes the lowest free number: else a file of the program would become the standard
    output of its libraries. Names of files hold any bytes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def read_config(flag: flags.FlagHolder) -> ConfigDict:
    """Returns the value of shared_flags.config().

    Raises:
      ConfigError: --config is not given, or the config names no model or dataset.
    """
    config = flag.value
    if config is None:
        raise ConfigError(
            f"--{flag.name} is missing; name a config, e.g. --config glintiqa_sample (jaxiqa configs lists them)",
            code="missing",
            key=f"--{flag.name}",
        )
    if missing := [f"{name}.name" for name in ("model", "dataset") if name in config and not config[name].name]:
        raise ConfigError(
            f"--{flag.name}: {' and '.join(missing)} must be set, in the file or by --{flag.name}.{missing[0]}=NAME",
            code="missing",
            key=f"config.{missing[0]}",
        )
    return config


def _guarded(main):
    for number in (signal.SIGTERM, *hang_ups()):
        signal.signal(number, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, _Interrupt())
    try:
        with full_disk("a file"):
            main()
        with full_disk("standard output"):
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        sys.unraisablehook = lambda _: None  # an object interrupted in __init__ may fail in __del__
        sys.exit(report(error))
    except BrokenPipeError:  # the reader of standard output is gone, e.g. head
        _discard_output()
        sys.exit(141)
    except Exception as error:
        if _FLAGS["debug"].value or not _message_of(error):
            raise
        sys.exit(report(error))


@contextlib.contextmanager
def writes_output(path: str | os.PathLike, flag: str = "--output") -> Iterator[None]:
    """Raises ConfigError in place of an OSError of the block, which writes to `path`, the value of a flag."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{flag} {os.fspath(path)} cannot be written ({error.strerror}); give another {flag}",
            code="unwritable",
            key=flag,
        ) from error


def report(error: BaseException) -> int:
    """Prints an error that ends the program: one line; a traceback for a bug or with --debug. Returns the exit code."""
    message = "" if _FLAGS["debug"].value else _message_of(error)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    if message:
        # Notes say, for instance, where unfinished work is. Notes of several lines are tracebacks that Grain adds.
        _print_line("; ".join((message, *(note for note in getattr(error, "__notes__", ()) if "\n" not in note))))
    else:
        traceback.print_exception(error)
    return exit_code_of(error)


def _discard_output() -> None:
    """Discards what standard output still holds, so that the interpreter does not fail to write it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_line(message: str) -> None:
    print(f"{_name()}: {message}", file=sys.stderr)


def _name() -> str:
    """The name of the program in messages: "jaxiqa score", or the file name of a script outside jaxiqa."""
    folder, file = os.path.split(sys.argv[0].removesuffix(f"{os.sep}__main__.py"))
    name = {f"{module}.py": name for name, module in MODULES.items()}.get(file, file.removesuffix(".py"))
    return f"jaxiqa {name}" if folder == os.path.dirname(__file__) else file


def _message_of(error: BaseException) -> str:
    """The message that the user sees for an error; "" for a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, _Terminated) else "interrupted"
    if isinstance(error, UserError):
        return str(error)
    if not is_out_of_memory(error):
        return ""
    wanted = re.search(r"allocat\w* ([\d.]+ ?[KMGT]?i?B|\d+ bytes)", str(error))  # XLA also lists buffers
    return (
        f"the device is out of memory{f' ({wanted[1]} more were needed)' if wanted else ''}; reduce batch_size, or in "
        "training raise config.accumulate or set config.dtype=bfloat16"
    )


def _terminate(*_):
    raise _Terminated


_UNCUT = ("<frozen importlib", os.path.join(os.path.dirname(os.__file__), "asyncio", ""))  # files of such frames
_PATIENCE = 10.0  # seconds


class _Interrupt:
    """The handler of Ctrl-C. At a bad moment it sends the signal again a little later; after 10 s it ends the process.

    An import or an event loop (Orbax has one) that is cut off fails in other ways, and Python ignores an error that is
    raised in a callback of the garbage collector, as JAX has one.
    """

    def __init__(self) -> None:
        self._since = 0.0  # when the signal was first sent again

    def __call__(self, number, frame) -> None:
        while frame:
            code, frame = frame.f_code, frame.f_back
            if code.co_name == "_xla_gc_callback" or code.co_filename.startswith(_UNCUT):
                self._since = self._since or time.monotonic()
                if time.monotonic() - self._since > _PATIENCE:
                    signal.signal(number, signal.SIG_DFL)
                threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
                return
        raise KeyboardInterrupt


def _parse(argv, takes_arguments):
    try:
        rest = flags.FLAGS(argv)
    except SystemExit:
        sys.exit(0 if _HELP & set(argv) else 2)
    except flags.UnrecognizedFlagError as error:
        message = _unknown_flag(error.flagname, takes_arguments)
    except flags.Error as error:
        message = _flag_error(str(error))
    except Exception as error:  # from an override of the config, or from code in the config file
        if "--debug" in argv:
            raise
        message = _explain(argv, error)
    else:
        if len(rest) == 1 or takes_arguments:
            if not flags.FLAGS["verbosity"].present:
                flags.FLAGS.verbosity = logging.WARNING  # libraries report every save at INFO
            return rest
        message = f'unexpected argument "{rest[1]}"; flags are written --name=value, see {_name()} --help'
    _print_line(message)
    sys.exit(2)


def _flag_error(text: str) -> str:
    """The message for a value that absl refuses, e.g. "flag --step=x: invalid literal for int() with base 10: 'x'"."""
    lines = text.strip().removeprefix("flag ").splitlines()  # if a config file fails: what, a traceback, why
    message = lines[0] if len(lines) == 1 else f"{lines[0].rstrip(':')}: {lines[-1]}"
    if flag := re.search(r"Missing value for flag (\S+)", message):
        return f"{flag[1]} needs a value; see {_name()} --help"
    given, _, reason = message.partition(": ")
    if section := re.match(r"(--config\.(\w+))=(.*?): Failed to parse .* as a ConfigDict", message):
        keys = [key for key in configs.KEYS if key.startswith(f"{section[2]}.")]
        return f"{section[1]} is a section; set a key of it, e.g. --config.{keys[0]}={section[3]}"
    must_be = next((plain for start, plain in _TYPES.items() if start in reason), "")
    return f"{given} must be {must_be}" if must_be else message


def _unknown_flag(flag: str, takes_arguments: bool) -> str:
    """The message for a flag that the program does not have, or for --config.key without --config."""
    known = [known.name for known in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
    name, _, key = flag.partition(".")
    if key and name in known:
        if takes_arguments:
            return f"--{flag} is for training; write it after --, as -- --{flag}=VALUE"
        return f"--{flag} needs a config; name one by --{name} NAME"
    tasks = getattr(flags.FLAGS["config"].parser, "tasks", None) if "config" in known else None
    meant = [f"config.{key}" for key in configs.keys_like(name, tasks)] if tasks is not None else []
    if near := nearest(name.replace("-", "_"), known, 0.6 if not meant else 1.0):
        meant = [near + flag.removeprefix(name)]
    if any(os.path.exists(word) for word in sys.argv[1:] if word.lstrip("-") == flag.lstrip("-")):
        remedy = "if it is a file, write it after --"
    elif meant:
        remedy = f"did you mean {' or '.join(f'--{one}' for one in meant)}?"
    else:
        remedy = f"see {_name()} --help"
    return f"there is no flag --{flag}; {remedy}"


def _explain(argv, error: Exception) -> str:
    """The message for an override that the config refuses, with the nearest key that exists."""
    given = re.search(r"(?:^|\0)--?config[=\0]([^\0]+)", "\0".join(argv))
    if isinstance(error, UserError) or not given:
        return str(error)
    config = configs.load(given[1], *flags.FLAGS["config"].parser.tasks[:1])
    known = configs.dotted(config)
    if "dataset" in config:
        known += [f"dataset.{option}" for option in shared_flags.dataset_options(config)]
    for arg in argv[1:]:
        key = re.match(r"--?config\.([^=]+)", arg)
        if key and key[1] not in known:
            return f"--config.{key[1]}: there is no such key; {configs.suggest_key(key[1], known)}"
    return str(error)
