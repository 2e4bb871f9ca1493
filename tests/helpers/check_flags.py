"""Parses a command line by the flags of a program, without running it: python check_flags.py MODULE ARGUMENTS.

The exit code is 0 if the program accepts the arguments. Otherwise there is a traceback.
"""

import importlib
import pathlib
import sys

from absl import flags

module = importlib.import_module(sys.argv.pop(1))
own = getattr(module, "_FLAGS", flags.FlagValues())
own.append_flag_values(flags.FLAGS)
words = own(sys.argv)[1:]  # also reads --config and applies its overrides
assert not words or "takes_arguments=True" in pathlib.Path(module.__file__).read_text(), f"unexpected {words}"
sys.exit(0)
