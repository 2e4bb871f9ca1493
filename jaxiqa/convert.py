"""Convert weight files of PyTorch models to checkpoints that train, evaluate and score take, and back.

  python -m jaxiqa.convert --inspect FILE
  python -m jaxiqa.convert --model resnet50 --source resnet50-19c8e357.pth --output converted/resnet50
  python -m jaxiqa.convert --model glintiqa --source glintiqa-kadid.pth --output converted/glintiqa --dataset kadid10k
  python -m jaxiqa.convert --source converted/glintiqa --target glintiqa.safetensors

FILE is a .pth, .pt, .tar, .safetensors or .npz file, plain or wrapped (state_dict, model, a module. prefix). PyTorch is
not needed and nothing in a file is executed: tensors are read, everything else is refused by name. Every tensor must
have its place: those that are missing, unknown, there twice, of another shape or not finite are listed, and nothing is
written. --ignore leaves tensors out by name.

The output folder holds the checkpoint, manifest.json (source, SHA-256, licence, and what became of each tensor) and
carried.safetensors (tensors that our graph has no use for, kept for the way back). --target writes a file under the
original names that PyTorch loads strictly; it takes a training run's workdir as well.

--dataset says what a quality model's output means (the labels it was trained on). Without it `score` shows the raw
output. --verify compares outputs with a golden JSON (its form: jaxiqa/weights/verify.py).

Exit codes: 0 done, 2 usage, 4 weights that cannot be used, or outputs that differ by more than 1e-4, 75 disk full.
"""

import re

import jax
from absl import flags
from etils import epath

from jaxiqa import datasets, program
from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError, ConfigError
from jaxiqa.evaluation import report
from jaxiqa.models import create_model, find_model
from jaxiqa.runs.checkpoint import Saved, save_once
from jaxiqa.runs.meta import CheckpointMeta
from jaxiqa.scoring.card import Card
from jaxiqa.training.state import scoring_variables
from jaxiqa.weights.files import file_sha256, read_tensors, write_tensors
from jaxiqa.weights.mapping import MANIFEST, export_tensors, import_tensors, make_manifest, read_manifest
from jaxiqa.weights.verify import TOLERANCE, verify

CARRIED = "carried.safetensors"

_MODEL = flags.DEFINE_string("model", None, "Model of the weights, e.g. glintiqa, vit_small_patch16_224, resnet50.")
_VARIANT = flags.DEFINE_string("variant", None, "Its variant; default: the first one.")
_SOURCE = flags.DEFINE_string("source", None, "Weight file, or with --target a checkpoint's folder.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the new checkpoint.")
_TARGET = flags.DEFINE_string("target", None, "File to write: FILE.safetensors or FILE.pth.")
_INSPECT = flags.DEFINE_string("inspect", None, "List the tensors of this file, and do nothing else.")
_KEY = flags.DEFINE_string("key", None, "Entry of a wrapped file that holds the weights, e.g. model_ema.")
_IGNORE = flags.DEFINE_multi_string("ignore", [], "Regular expression: tensors to leave out; may be repeated.")
_SHA256 = flags.DEFINE_string("expect_sha256", None, "Refuse a source file with another SHA-256.")
_LICENCE = flags.DEFINE_string("licence", "", "Licence of the weights, for the manifest.")
_DATASET = flags.DEFINE_string("dataset", None, "Dataset on whose labels (native scale) the model was trained.")
_VERIFY = flags.DEFINE_string("verify", None, "Golden JSON to compare the outputs with.")
_STEP = flags.DEFINE_integer("step", None, "With --target: step of the checkpoint; default: the best, else the latest.")


def inspect(path: str) -> None:
    """Prints every tensor of a file: name, shape, type."""
    tensors = read_tensors(path, _KEY.value)
    width = max(map(len, tensors), default=0)
    for name, array in tensors.items():
        print(f"{name:{width}}  {array.dtype!s:10} {tuple(array.shape)}")
    print(f"{len(tensors)} tensors, {sum(a.size for a in tensors.values()):,} values, SHA-256 {file_sha256(path)}")


def convert(source: str, output: epath.Path) -> None:
    """A weight file to a checkpoint's folder."""
    if not _MODEL.value:
        raise ConfigError("--model is missing; name the model that the weights are of, e.g. --model resnet50")
    if (output / "checkpoints").exists():
        raise ConfigError(f"--output {output} holds a checkpoint already; name another folder or remove it")
    _check_ignore()
    model = create_model(_MODEL.value, _VARIANT.value)
    module = find_model(_MODEL.value)
    variant = _VARIANT.value or next(k for k in (_MODEL.value, *module.VARIANTS) if k in module.VARIANTS)
    sha256 = file_sha256(source)
    if _SHA256.value and _SHA256.value.lower() != sha256:
        raise CheckpointError(f"--source {source} has SHA-256 {sha256}, not {_SHA256.value}; fetch the right file")
    tensors = read_tensors(source, _KEY.value)
    one_by_one = ((name, tensors.pop(name)) for name in list(tensors))  # so that no two copies of all are in memory
    imported = import_tensors(_MODEL.value, one_by_one, variant, _IGNORE.value)
    _verify(_MODEL.value, variant, imported.variables)
    manifest = make_manifest(source, sha256, _MODEL.value, variant, _LICENCE.value, imported.coverage)
    dataset = datasets.reader(_DATASET.value) if _DATASET.value else None
    card = Card(
        model={"name": _MODEL.value, "variant": variant},
        dtype="float32",
        labels="native" if dataset else "score01",
        dataset=datasets.find(_DATASET.value) if dataset else "",
        scale=Scale(*dataset.SCORE_RANGE, dataset.HIGHER_IS_BETTER) if dataset else Scale(0.0, 1.0),
        crops=module.TEST_CROPS,
        note="" if dataset or hasattr(model, "num_classes") else "the scale of these weights is not known",
    )
    output.mkdir(parents=True, exist_ok=True)
    report.write_json(output / MANIFEST, manifest)
    write_tensors(output / CARRIED, imported.carried)
    state = {"params": imported.variables["params"], "batch_stats": imported.variables.get("batch_stats", {})}
    save_once(output, state, CheckpointMeta(card=card.to_dict(), source=manifest["source"]))
    counts = manifest["counts"]
    print(
        f"{len(imported.coverage)} tensors of {source}: {counts['mapped']} mapped, {counts['carried']} carried, "
        f"{counts['ignored']} ignored\n{_MODEL.value} {variant} is in {output} (SHA-256 of the source {sha256})"
    )
    if not _LICENCE.value:
        print("note: no --licence given for the manifest; PAPER in the model's file says what the public weights have")


def export(folder: str, target: epath.Path) -> None:
    """A checkpoint to a weight file under the original names."""
    saved = Saved(folder, _STEP.value)
    card = Card.from_dict(saved.meta.card, saved.workdir)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), device))
    name, variant = card.model["name"], card.model["variant"]
    _verify(name, variant, variables)
    manifest = read_manifest(saved.workdir)
    carried = read_tensors(saved.workdir / CARRIED) if manifest else {}
    tensors, made_up = export_tensors(name, variables, variant, carried, manifest.get("tensors", ()))
    write_tensors(target, tensors)
    print(f"{len(tensors)} tensors of {name} {variant}, step {saved.step}, are in {target}")
    if made_up:
        stems = sorted({re.sub(r"\d+", "N", n) for n in made_up})
        print(f"note: {len(made_up)} of them are zeros, because the model has no such parameters ({', '.join(stems)})")


def _check_ignore() -> None:
    for pattern in _IGNORE.value:
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            what = f"--ignore {pattern} is not a regular expression ({error})"
            raise ConfigError(f"{what}; put \\ before a character that means itself") from error


def _verify(name: str, variant: str, variables: dict) -> None:
    if not _VERIFY.value:
        return
    errors = verify(name, variant, variables, _VERIFY.value)
    for tap, error in errors.items():
        print(f"{tap:10} relative error {error:.1e}")
    worst = max(errors, key=errors.get)
    if not errors[worst] <= TOLERANCE:
        off = f"{errors[worst]:.1e} of its magnitude"
        raise CheckpointError(f"--verify: {worst} differs by {off}, more than {TOLERANCE:g}")


def main() -> None:
    """The program."""
    if _INSPECT.value:
        inspect(_INSPECT.value)
    elif not _SOURCE.value:
        raise ConfigError("--source is missing; name a weight file (or --inspect FILE to look into one)")
    elif _TARGET.value:
        export(_SOURCE.value, epath.Path(_TARGET.value))
    elif _OUTPUT.value:
        convert(_SOURCE.value, epath.Path(_OUTPUT.value))
    else:
        raise ConfigError("--output DIR (a checkpoint) or --target FILE (a weight file) is missing")


if __name__ == "__main__":
    program.run(main)
