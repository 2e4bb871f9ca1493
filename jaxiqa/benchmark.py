"""Measure one subject on the present device, as ratios within one run.

  python -m jaxiqa.benchmark distortions

distortions   pictures/s of each type and of a mixed batch, against SciPy, scikit-image and Pillow on the host, and the
              mixed batch's share of a GlintIQA training step
lka           large-kernel attention's depthwise convolutions against XLA's own

Exit codes: 0 done, 1 a bar of the subject was missed, 2 usage.
"""

import importlib
import pkgutil
import sys

from jaxiqa import benchmarks, program
from jaxiqa.errors import ConfigError, suggest
from jaxiqa.runs import compile_cache


def main(subjects: list[str]) -> None:
    """The program."""
    names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__)]
    modules = {name: importlib.import_module(f"{benchmarks.__name__}.{name}") for name in names}
    runs = {name: module.run for name, module in modules.items() if hasattr(module, "run")}
    if len(subjects) != 1 or subjects[0] not in runs:
        hint = suggest(" ".join(subjects), runs)
        raise ConfigError(f"name one subject, python -m jaxiqa.benchmark SUBJECT; {hint}")
    compile_cache.enable()
    sys.exit(runs[subjects[0]]())


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
