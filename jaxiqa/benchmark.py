"""Measure one subject on the present device, as ratios within one run.

  python -m jaxiqa.benchmark distortions

distortions   pictures/s of each type and of a mixed batch, against SciPy, scikit-image and Pillow on the host, and the
              mixed batch's share of a GlintIQA training step
lka           large-kernel attention's depthwise convolutions against XLA's own

Exit codes: 0 done, 1 a bar of the subject was missed, 2 usage.
"""

import difflib
import importlib
import pkgutil
import sys

from jaxiqa import benchmarks, program
from jaxiqa.errors import ConfigError
from jaxiqa.training import compile_cache


def main(subjects: list[str]) -> None:
    """The program."""
    known = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("reference"))
    if len(subjects) != 1 or subjects[0] not in known:
        near = difflib.get_close_matches(subjects[0], known, 1) if subjects else []
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
        raise ConfigError(f"name one subject, python -m jaxiqa.benchmark SUBJECT; {hint}")
    compile_cache.enable()
    sys.exit(importlib.import_module(f"jaxiqa.benchmarks.{subjects[0]}").run())


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
