"""Measure speed or start times, each relative to a reference.

  jaxiqa benchmark distortions
  jaxiqa benchmark score --crops auto:4 --images folder/
  jaxiqa benchmark crops --data_dir folder/

distortions   images/s of each type and of a mixed batch, compared with SciPy, scikit-image and Pillow on the host, and
              the share of a GlintIQA training step that the mixed batch takes
lka           depthwise convolutions of large-kernel attention, compared with XLA's grouped convolution
score         images/s of decoding, of the model and of both together, and what 100 million images cost on this machine
              (--checkpoint, --crops, --images)
forward       images/s of a model's forward pass in fp32 and bf16, its share of the measured ceiling, and its agreement
              with the CPU; --twin measures PyTorch in turns with it (--model, --batch_size)
train         the same for the training step of a shipped experiment (--model glintiqa or mfen, --twin)
attention     forms of a ViT's attention, and their share of the ceiling
input         images/s of the training input, compared with a decoder alone and with the cache (--images)
compile       compile times of every system and variant, cold and with a warm cache (--model)
crops         rank correlation of auto:N with the full grid and with ratings, and images/s, for N = 1, 4, 9, 25
              (--checkpoint, --data_dir and --option for rated images, or --images, --count)
export        crops/s of an exported ONNX file in ONNX Runtime, compared with JAX, on the CPU (--checkpoint)
startup       start times of the package and of every program's --help, compared with that of Python

All but crops, export, score and startup take three more flags. --output FILE.json stores the rows with versions and
hardware, and keeps the rows of other subjects. --compare OLD.json prints each speed divided by that in an earlier file.
--tiny only checks that the subject runs.

Exit codes: 0 done, 1 a measurement missed its limit, 2 usage, 3 bad data or results.
"""

import importlib
import inspect
import sys

from absl import flags

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError, suggest

_FLAGS = flags.FlagValues()
shared_flags.checkpoint(_FLAGS)
shared_flags.crops(_FLAGS)
shared_flags.data_dir(_FLAGS, None, " of rated images, with an index.csv")
shared_flags.option(_FLAGS)
flags.DEFINE_string(
    "images", None, "Folder of images to measure, in place of those of scikit-image.", flag_values=_FLAGS
)
shared_flags.batch_size(_FLAGS)
shared_flags.output_file(_FLAGS, ".json")
flags.DEFINE_string("compare", None, "JSON file of an earlier --output to compare with.", flag_values=_FLAGS)
flags.DEFINE_string("model", None, "Model to measure; default: glintiqa (compile: all).", flag_values=_FLAGS)
flags.DEFINE_bool("tiny", False, "Only check that the benchmark runs, with small models and sizes.", flag_values=_FLAGS)
flags.DEFINE_bool("twin", False, "Measure the same network in PyTorch too, in turns.", flag_values=_FLAGS)
flags.DEFINE_string(
    "torch_python", None, "Python interpreter with PyTorch for --twin; default: this one.", flag_values=_FLAGS
)
flags.DEFINE_integer("count", 100, "Number of images that `crops` scores.", lower_bound=2, flag_values=_FLAGS)

SUBJECTS = (
    "attention",
    "compile",
    "crops",
    "distortions",
    "export",
    "forward",
    "input",
    "lka",
    "score",
    "startup",
    "train",
)  # files in benchmarks/ with run()


def main(subjects: list[str]) -> None:
    """The program."""
    if len(subjects) != 1 or subjects[0] not in SUBJECTS:
        hint = suggest(" ".join(subjects), SUBJECTS)
        what = f'there is no subject "{subjects[0]}"' if len(subjects) == 1 else "exactly one subject is needed"
        raise ConfigError(f"{what}: jaxiqa benchmark SUBJECT; {hint}", code="unknown", key="subject")
    run = importlib.import_module(f"jaxiqa.benchmarks.{subjects[0]}").run
    taken = inspect.signature(run).parameters  # the flags that the subject takes
    if unused := [name for name in _FLAGS if _FLAGS[name].present and name not in taken]:
        raise ConfigError(
            f"--{unused[0]} is not for jaxiqa benchmark {subjects[0]}; leave it out",
            code="conflict",
            key=f"--{unused[0]}",
        )
    given = {name: _FLAGS[name].value for name in taken}
    sys.exit(run(**{name: value for name, value in given.items() if value is not None}))


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
