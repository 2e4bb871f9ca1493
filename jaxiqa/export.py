"""Export a checkpoint for programs without JAX, or for browsers.

  jaxiqa export --output model.onnx
  jaxiqa export --checkpoint workdir/mine --output mine.onnx
  jaxiqa export --checkpoint workdir/mine --precision int8 --output mine_int8.onnx \\
      --dataset folder --data_dir /path/to/folder
  jaxiqa export --checkpoint workdir/mine --format stablehlo --output mine.stablehlo
  jaxiqa export --format web --output page
  jaxiqa export --format web --single_file --output page.html

Without --checkpoint, the model is the one that comes with jaxiqa ("ready").

--format:
  onnx       a file for ONNX Runtime and other engines
  stablehlo  a file for jax.export.deserialize, without jaxiqa; beside it FILE.stablehlo.json with the card
  web        a folder for any web server: a page that scores images in the browser of its visitor and uploads nothing.
             ONNX Runtime for browsers is fetched by npm, or comes from the folder --ort. With --single_file, the page
             is one HTML file, which also opens without a server

A file takes crops, uint8 (B, H, W, 3), RGB, of any number B. It includes the normalisation. It returns `score` (0..100,
higher is better), `native` (on the scale of the ratings, if there is one) and `output` (what the model returns). The
card, the crop policy and the SHA-256 of the weights are in the metadata of an ONNX file.

A file is written only if its scores of 32 crops of photographs agree with those of the checkpoint: within 1e-4 of the
range of scores in fp32, 1e-2 in fp16, 1e-1 in int8. With --dataset, the loss of accuracy on rated images is printed
too.

Exit codes: 0 done, 2 usage, 3 bad data, 4 unusable checkpoint, or a file that does not agree with it, 75 disk full.
"""

import json

from absl import flags
from etils import epath

from jaxiqa import datasets, program, shared_flags
from jaxiqa.datasets.options import parse_options
from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.exporting import need_packages
from jaxiqa.files import write_bytes

FORMATS = ("onnx", "stablehlo", "web")
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-1}  # of the range of scores

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS)
_STEP = shared_flags.step(_FLAGS)
_CROPS = shared_flags.crops(_FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format",
    "onnx",
    FORMATS,
    "What to write: onnx or stablehlo (a file each), or web (a folder with a page for browsers).",
    flag_values=_FLAGS,
)
_OUTPUT = shared_flags.output_folder(
    _FLAGS, "What to write: FILE.onnx, FILE.stablehlo, a folder for --format web, or FILE.html with --single_file"
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "fp32",
    tuple(TOLERANCES),
    "Numbers of the ONNX file or the page: fp32, fp16 or int8 (convolutions and matrix products).",
    flag_values=_FLAGS,
)
_ORT = flags.DEFINE_string(
    "ort",
    None,
    "Folder of the unpacked package onnxruntime-web for --format web; default: npm fetches it once.",
    flag_values=_FLAGS,
)
_SINGLE_FILE = flags.DEFINE_bool(
    "single_file",
    False,
    "Write the page of --format web as one HTML file, which browsers also open from a disk.",
    flag_values=_FLAGS,
)
_DATASET = shared_flags.dataset(_FLAGS, "on which the loss of the file is measured")
_DATA_DIR = shared_flags.data_dir(_FLAGS)
_OPTION = shared_flags.option(_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)


def main() -> None:
    """The program."""
    _check_flags()
    dataset = None
    if _DATASET.value:
        options = parse_options(_OPTION.value)
        dataset = datasets.load(**{**options, "name": datasets.find(_DATASET.value), "data_dir": _DATA_DIR.value or ""})

    from jaxiqa.exporting.crop_scores import CHECKED, CropScores, describe, largest_difference, real_crops
    from jaxiqa.models import ready
    from jaxiqa.runs import compile_cache
    from jaxiqa.scoring.scorer import Scorer

    compile_cache.enable()
    checkpoint = ready.by_default(_CHECKPOINT.value, "--checkpoint")
    scorer = Scorer(checkpoint, _STEP.value, _CROPS.value, allow=_ALLOW.value)
    reference = CropScores(scorer)
    if _FORMAT.value == "stablehlo":
        from jaxiqa.exporting import stablehlo_file

        file = stablehlo_file.make(scorer)
        run = stablehlo_file.runner(file, reference.outputs)
    else:
        from jaxiqa.exporting import onnx_file

        file = onnx_file.make(scorer, _PRECISION.value)
        run = onnx_file.runner(file)
    crops = real_crops(scorer)
    difference = largest_difference(run(crops), reference.reference(crops))
    if not difference <= 100 * TOLERANCES[_PRECISION.value]:
        raise CheckpointError(
            f"the {_FORMAT.value} file of {scorer.workdir} does not agree with the checkpoint and is not written: "
            f"scores of {CHECKED} crops differ by up to {difference:.3g} of 100, more than "
            f"{100 * TOLERANCES[_PRECISION.value]:g}; use another --precision or --format",
            code="mismatch",
            key=scorer.workdir,
        )
    files = _files(scorer, file, run)
    with program.writes_output(_OUTPUT.value):
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
    sides = " x ".join(map(str, reference.sides))
    print(
        f"{describe(scorer, '')['model']}, {_PRECISION.value}: crops (B, {sides}) to {', '.join(reference.outputs)}\n"
        f"scores of {CHECKED} crops of photographs differ from JAX by {difference:.2g} of 100 at most (limit "
        f"{100 * TOLERANCES[_PRECISION.value]:g})"
    )
    if dataset:
        from jaxiqa.exporting import loss

        print(loss.describe(dataset, *loss.measure(scorer, run, dataset)))
    print(f"{_OUTPUT.value} ({sum(map(len, files.values())) / 1e6:.2f} MB)")


def _files(scorer, file: bytes, run) -> dict[epath.Path, bytes]:
    """{path: content} of what is written; what readers open first is the last."""
    from jaxiqa.exporting.crop_scores import describe

    output = epath.Path(_OUTPUT.value)
    if _FORMAT.value == "onnx":
        return {output: file}
    if _FORMAT.value == "stablehlo":
        about = json.dumps(describe(scorer, _PRECISION.value), indent=2) + "\n"
        return {output.with_name(f"{output.name}.json"): about.encode(), output: file}

    from jaxiqa.exporting import web_folder

    files = web_folder.make(scorer, file, run, _ORT.value, _SINGLE_FILE.value)
    return {output if _SINGLE_FILE.value else output / name: content for name, content in files.items()}


def _check_flags() -> None:
    """Refuses what does not go together, before anything is loaded."""
    if not _OUTPUT.value:
        raise ConfigError("--output is missing; name a file, e.g. --output model.onnx", code="missing", key="--output")
    for flag in (_ORT, _SINGLE_FILE):
        if flag.value and _FORMAT.value != "web":
            raise ConfigError(
                f"--{flag.name} is for --format web; leave it out for --format {_FORMAT.value}",
                code="conflict",
                key=f"--{flag.name}",
            )
    ending = ".html" if _SINGLE_FILE.value else "" if _FORMAT.value == "web" else f".{_FORMAT.value}"
    if epath.Path(_OUTPUT.value).suffix != ending:
        what = f"end in {ending}" if ending else "be a folder, or a file with --single_file,"
        raise ConfigError(
            f"--output {_OUTPUT.value} must {what} for --format {_FORMAT.value}", code="value", key="--output"
        )
    if _FORMAT.value == "stablehlo" and _PRECISION.value != "fp32":
        raise ConfigError(
            f"--precision {_PRECISION.value} is for ONNX files; leave it out for --format {_FORMAT.value}",
            code="conflict",
            key="--precision",
        )
    if not _DATASET.value and (_DATA_DIR.value or _OPTION.value):
        raise ConfigError("--dataset is missing; name the dataset of --data_dir", code="missing", key="--dataset")
    if _FORMAT.value != "stablehlo":
        need_packages()


if __name__ == "__main__":
    program.run(main, _FLAGS)
