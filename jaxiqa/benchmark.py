"""Measure speed or start times, each relative to a reference.

  jaxiqa benchmark distortions

distortions   images/s of each type and of a mixed batch, compared with SciPy, scikit-image and Pillow on the host, and
              the share of a GlintIQA training step that the mixed batch takes
lka           depthwise convolutions of large-kernel attention, compared with XLA's grouped convolution
startup       start times of the package and of every program's --help, compared with that of Python

Exit codes: 0 done, 1 a measurement missed its limit, 2 usage.
"""

import importlib
import sys

from jaxiqa import program
from jaxiqa.errors import ConfigError, suggest

SUBJECTS = ("distortions", "lka", "startup")  # files in benchmarks/ with run()


def main(subjects: list[str]) -> None:
    """The program."""
    if len(subjects) != 1 or subjects[0] not in SUBJECTS:
        hint = suggest(" ".join(subjects), SUBJECTS)
        raise ConfigError(
            f"exactly one subject is needed: jaxiqa benchmark SUBJECT; {hint}", code="unknown", key="subject"
        )
    sys.exit(importlib.import_module(f"jaxiqa.benchmarks.{subjects[0]}").run())


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
