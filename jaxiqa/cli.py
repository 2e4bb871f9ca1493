"""The command `jaxiqa`: `jaxiqa NAME ...` is `python -m jaxiqa.NAME ...`; without a name it lists the programs."""

import os
import pathlib
import runpy
import sys

from jaxiqa.errors import suggest
from jaxiqa.version import __version__

GROUPS = {
    "Score and explain": ("score", "serve"),
    "Train": ("train", "pretrain", "transfer", "configs"),
    "Data": ("doctor", "prepare", "distort"),
    "Weights": ("calibrate", "convert", "export", "probe"),
    "Results and statistics": ("evaluate", "protocol", "compare", "compete"),
    "Run and measure": ("aot", "benchmark"),
}
MODULES = {"configs": "config_files"}  # programs whose module has another name; jaxiqa.configs holds the experiments


def module_of(name: str) -> str:
    """The module of a program, without the prefix "jaxiqa."."""
    return MODULES.get(name, name)


def describe() -> str:
    """Lists the programs by group, each with the first line of its docstring. Imports none of them."""
    lines = ["usage: jaxiqa PROGRAM [FLAGS]"]
    for group, names in GROUPS.items():
        lines += ["", group, *(f"  {name:10} {_first_line(name)}" for name in names)]
    lines += ["", "jaxiqa PROGRAM --help explains a program and its flags; jaxiqa --version prints the version."]
    return "\n".join(lines)


def _first_line(name: str) -> str:
    path = pathlib.Path(__file__).with_name(module_of(name))
    path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')


def main() -> int:
    """Runs the command. Returns its exit code; a program that it starts exits with its own."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(describe())
        return 0
    if name == "--version":
        print(f"jaxiqa {__version__}")
        return 0
    names = [name for group in GROUPS.values() for name in group]
    if name not in names:
        print(f'jaxiqa: there is no program "{name}"; {suggest(name, names)}', file=sys.stderr)
        return 2
    del sys.argv[1]  # runpy sets sys.argv[0]
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as python -m does, so that the user's own modules are found
    runpy.run_module(f"jaxiqa.{module_of(name)}", run_name="__main__", alter_sys=True)
    return 0
