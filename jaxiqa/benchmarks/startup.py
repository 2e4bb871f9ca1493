"""Start times of the package, of the command and of every program's --help, relative to Python alone."""

import statistics
import subprocess
import sys
import time

from jaxiqa.cli import GROUPS

REPEATS = 5
BARS = {"import jaxiqa": 0.3, "jaxiqa --help": 0.5, "jaxiqa score --help": 1.5}  # seconds on an idle core


def commands() -> dict[str, list[str]]:
    """{line of the table: arguments of python}."""
    imports = ("import jaxiqa", "import jaxiqa.datasets")
    programs = [name for names in GROUPS.values() for name in names]
    return {
        "python -c pass": ["-c", "pass"],
        **{line: ["-c", line] for line in imports},
        "jaxiqa --help": ["-m", "jaxiqa", "--help"],
        **{f"jaxiqa {name} --help": ["-m", "jaxiqa", name, "--help"] for name in programs},
    }


def seconds(arguments: list[str]) -> float:
    """Seconds from the start to the end of one new process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def run() -> int:
    """Prints the table; returns 1 if a median is over its bar.

    The commands take turns, so that a temporary load slows all of them.
    """
    lines = commands()
    times = {name: [] for name in lines}
    for arguments in lines.values():
        seconds(arguments)  # loads the files into memory and writes the byte code
    for _ in range(REPEATS):
        for name, arguments in lines.items():
            times[name].append(seconds(arguments))
    alone = statistics.median(times["python -c pass"])
    print(f"medians of {REPEATS} cold processes, Python {sys.version.split()[0]}")
    print(f"{'':28} {'s':>6} {'ratio':>7} {'bar, s':>7}")
    missed = 0
    for name, values in times.items():
        middle, bar = statistics.median(values), BARS.get(name, float("inf"))
        missed += middle > bar
        print(f"{name:28} {middle:6.2f} {middle / alone:7.1f} {bar if name in BARS else '':>7}")
    return int(missed > 0)
