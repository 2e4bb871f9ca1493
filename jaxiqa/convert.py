"""Convert PyTorch weights to checkpoints, and back; push to a hub.

  jaxiqa convert --inspect FILE
  jaxiqa convert --model resnet50 --source resnet50-19c8e357.pth --output converted/resnet50
  jaxiqa convert --model glintiqa --source glintiqa-kadid.pth --output converted/glintiqa --dataset kadid10k
  jaxiqa convert --model arniqa --source ARNIQA.pth --regressor regressor_koniq10k.pth --output converted/arniqa
  jaxiqa convert --source converted/glintiqa --target glintiqa.safetensors
  jaxiqa convert --source workdir/mine --push owner/name --licence Apache-2.0

train, evaluate and score read the checkpoints. FILE is a .pth, .pt, .ckpt, .bin, .safetensors or .npz file, or the
index (.json) of a checkpoint in several files. PyTorch is not needed. Nothing in a file is executed. Other content
(options, optimiser states, ...) is ignored, and --inspect names it. The weights may be in an entry of the file
(state_dict, model, ...). If there are several such entries, --key chooses one. Prefixes of the names ("module.",
"backbone.", ...) are found and removed. If a tensor is missing, unknown, repeated, non-finite or has the wrong shape,
the program lists it and writes nothing. --ignore leaves tensors out by name. A position embedding of another grid is
resized. The classifier of a backbone is left out if it is for other classes.

The output folder holds the checkpoint, manifest.json (source, SHA-256, licence, and the use of each tensor) and
carried.safetensors (tensors that jaxiqa's model does not use, kept for export). --target writes a file with the
original names, which PyTorch loads with strict=True. --source may then also be the workdir of a training run.

--push puts a checkpoint on the hub of Hugging Face. It needs the extra [hub] and the token of `hf auth login`. It
writes model.safetensors (the weights), jaxiqa.json (the card and the SHA-256 of each array) and README.md (a page for
readers). If there is no such repository, a private one is created. hf://owner/name or hf://owner/name@REVISION then
names the checkpoint wherever a checkpoint is named. The config of the run, which names folders of this machine, is left
out.

--dataset names the training set of a quality model, so that `jaxiqa score` knows the scale of its labels. The name of a
--regressor file also names it (regressor_koniq10k.pth). If the training set is not known, scores are raw outputs.
--verify compares outputs with a golden JSON file (form: jaxiqa/weights/verify.py).

Exit codes: 0 done, 2 usage, 4 unusable weights, or outputs that differ by more than 1e-4, 75 disk full.
"""

import dataclasses
import json
import pathlib
import re
import tempfile

from absl import flags
from etils import epath

from jaxiqa import datasets, plugins, program, shared_flags
from jaxiqa.datasets.records import Scale
from jaxiqa.errors import CheckpointError, ConfigError, printable
from jaxiqa.files import write_bytes, write_json
from jaxiqa.runs.checkpoint_meta import CheckpointMeta

CARRIED = "carried.safetensors"
_PREFIX = "regressor."  # of the tensors of a --regressor file, in the NAMES of its model

_FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Model that the weights belong to, e.g. glintiqa, vit_small_patch16_224, resnet50.",
    flag_values=_FLAGS,
)
_VARIANT = flags.DEFINE_string("variant", None, "Variant of --model; default: the first one.", flag_values=_FLAGS)
_SOURCE = flags.DEFINE_string(
    "source",
    None,
    "Weight file to convert; with --target or --push, folder of a checkpoint.",
    flag_values=_FLAGS,
)
_REGRESSOR = flags.DEFINE_string(
    "regressor",
    None,
    "File of the regressor, if the model has regressors in files of their own; with --target, the file to write it to.",
    flag_values=_FLAGS,
)
_OUTPUT = shared_flags.output_folder(_FLAGS, "Folder of the new checkpoint")
_TARGET = flags.DEFINE_string("target", None, "Weight file to write: FILE.safetensors or FILE.pth.", flag_values=_FLAGS)
_PUSH = flags.DEFINE_string(
    "push", None, "Repository on a hub, OWNER/NAME, that the checkpoint --source is put into.", flag_values=_FLAGS
)
_INSPECT = flags.DEFINE_string(
    "inspect", None, "Weight file whose tensors are listed; nothing is converted.", flag_values=_FLAGS
)
_KEY = flags.DEFINE_string(
    "key", None, "Entry of the weight file that holds the weights, e.g. model_ema or a.b.", flag_values=_FLAGS
)
_IGNORE = flags.DEFINE_multi_string(
    "ignore", [], "Regular expression of names of tensors to leave out", flag_values=_FLAGS
)
_SHA256 = flags.DEFINE_string("expect_sha256", None, "SHA-256 that --source must have.", flag_values=_FLAGS)
_LICENCE = flags.DEFINE_string(
    "licence", "", "Licence of the weights, for manifest.json or for the hub.", flag_values=_FLAGS
)
_DATASET = shared_flags.dataset(_FLAGS, "whose labels, in their native scale, the model was trained on")
_VERIFY = flags.DEFINE_string(
    "verify", None, "Golden JSON file that the outputs are compared with.", flag_values=_FLAGS
)
_ALLOW = shared_flags.allow(_FLAGS)
_STEP = shared_flags.step(_FLAGS)


def inspect(path: str) -> None:
    """Prints name, type and shape of every tensor of a file, and what else the file holds."""
    from jaxiqa.weights.entries import TOP, describe
    from jaxiqa.weights.files import file_sha256, read_file
    from jaxiqa.weights.prefixes import common_prefix

    found = read_file(path, _KEY.value, may_be_several=True)
    tensors = found.tensors
    width = max(map(len, tensors), default=0)
    for name, array in tensors.items():
        print(f"{name:{width}}  {array.dtype!s:10} {tuple(array.shape)}")
    if len(found.entries) > 1:
        chosen = f"{found.entry} is read" if found.entry else "choose one by --key NAME"
        print(f"entries: {describe(found.entries)}; {chosen}")
    elif found.entry not in ("", TOP):
        print(f"entry: {printable(found.entry)}")
    shared = common_prefix(tensors)
    if found.prefix or shared:
        print(
            f"prefix of all names: {found.prefix}{shared}" + (f" ({found.prefix} is removed)" if found.prefix else "")
        )
    if found.unknown:
        print(f"passed over, not imported: {', '.join(map(printable, found.unknown))}")
    print(f"{len(tensors)} tensors, {sum(a.size for a in tensors.values()):,} values, SHA-256 {file_sha256(path)}")


def convert(source: str, output: epath.Path) -> None:
    """Converts a weight file to the folder of a checkpoint."""
    if not _MODEL.value:
        raise ConfigError(
            "--model is missing; name the model that the weights belong to, e.g. --model resnet50",
            code="missing",
            key="--model",
        )
    if (output / "checkpoints").exists():
        raise ConfigError(
            f"--output {output} already holds a checkpoint; name another folder, or remove it",
            code="conflict",
            key="--output",
        )
    _check_ignore()

    from jaxiqa.models import create_model, find_model
    from jaxiqa.runs.checkpoint import save_once
    from jaxiqa.scoring.card import Card
    from jaxiqa.weights.entries import describe
    from jaxiqa.weights.files import file_sha256, read_file, read_tensors, write_tensors
    from jaxiqa.weights.mapping import MANIFEST, about_file, import_tensors, make_manifest

    model = create_model(_MODEL.value, _VARIANT.value)
    module = find_model(_MODEL.value, "NAMES", "TEST_CROPS")
    dataset, scale = _labels(module)
    variant = _VARIANT.value or next(k for k in (_MODEL.value, *module.VARIANTS) if k in module.VARIANTS)
    sha256 = file_sha256(source)
    if _SHA256.value and _SHA256.value.lower() != sha256:
        raise CheckpointError(
            f"--source {source} has SHA-256 {sha256}, not {_SHA256.value}; download the right file",
            code="changed",
            key=source,
        )
    found = read_file(source, _KEY.value)
    tensors = found.tensors
    if _REGRESSOR.value:
        tensors |= {_PREFIX + name: array for name, array in read_tensors(_REGRESSOR.value).items()}
    elif hasattr(module, "REGRESSORS") and not any(name.startswith(_PREFIX) for name in tensors):
        raise ConfigError(
            f"--regressor is missing: {source} has no regressor; name its file, e.g. regressor_koniq10k.pth",
            code="missing",
            key="--regressor",
        )
    # pop, so that memory never holds two copies of all tensors.
    one_by_one = ((name, tensors.pop(name)) for name in list(tensors))
    imported = import_tensors(_MODEL.value, one_by_one, variant, _IGNORE.value)
    _verify(_MODEL.value, variant, imported.variables)
    manifest = make_manifest(source, sha256, _MODEL.value, variant, _LICENCE.value, imported.coverage)
    if _REGRESSOR.value:
        manifest["regressor"] = about_file(_REGRESSOR.value, file_sha256(_REGRESSOR.value))
    card = Card(
        model={"name": _MODEL.value, "variant": variant},
        dtype="float32",
        labels="native" if dataset else "score01",
        dataset=dataset,
        scale=scale,
        crops=module.TEST_CROPS,
        package=plugins.package_of(_MODEL.value, plugins.MODELS),
        note="" if dataset or hasattr(model, "num_classes") else "the scale of these weights is not known",
    )
    with program.writes_output(output):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / MANIFEST, manifest)
    write_tensors(output / CARRIED, imported.carried)
    state = {"params": imported.variables["params"], "batch_stats": imported.variables.get("batch_stats", {})}
    save_once(output, state, CheckpointMeta(card=card.to_dict(), source=manifest["source"]))
    if len(found.entries) > 1:
        print(f"entry {printable(found.entry)} of the file is read; it also has {describe(found.others())}")
    if prefix := found.prefix + imported.prefix:
        print(f'the prefix "{prefix}" of the names is removed')
    for note in imported.notes:
        print(f"note: {note}")
    counts = ", ".join(f"{number} {kind}" for kind, number in manifest["counts"].items())
    print(f"{len(imported.coverage)} tensors of {source}: {counts}")
    print(f"{_MODEL.value} {variant} is in {output} (SHA-256 of the source {sha256})")
    if card.note:
        print(f"note: {card.note}; name the training set by --dataset, or fit the checkpoint by jaxiqa calibrate")
    if not _LICENCE.value:
        print("note: manifest.json names no licence; give --licence (for public weights see PAPER in the model's file)")


def _regressors(name: str, module) -> dict[str, Scale]:
    """{dataset: scale} of the regressors that a model has in files of their own; refuses --regressor without any."""
    own = {datasets.find(key): Scale(*values) for key, values in getattr(module, "REGRESSORS", {}).items()}
    if _REGRESSOR.value and not own:
        raise ConfigError(
            f"--regressor: {name} has no regressors in files of their own; leave the flag out",
            code="conflict",
            key="--regressor",
        )
    return own


def _labels(module) -> tuple[str, Scale]:
    """The dataset that --dataset or the name of the --regressor tells, "" if neither does, and the scale of scores."""
    own = _regressors(_MODEL.value, module)
    dataset = datasets.find(_DATASET.value) if _DATASET.value else ""
    if _REGRESSOR.value:
        words = re.split(r"[^a-z0-9]+", pathlib.Path(_REGRESSOR.value).name.lower())
        told = {datasets.find(key) for key in module.REGRESSORS if key in words}
        if dataset and told and dataset not in told:
            raise ConfigError(
                f"--dataset {_DATASET.value} is not the dataset that {_REGRESSOR.value} is named for; leave --dataset "
                "out, or rename the file",
                code="conflict",
                key="--dataset",
            )
        dataset = dataset or (told.pop() if len(told) == 1 else "")
    if not dataset:
        return "", Scale(0.0, 1.0)
    reader = datasets.reader(dataset)
    return dataset, own.get(dataset) or Scale(*reader.SCORE_RANGE, reader.HIGHER_IS_BETTER)


def export(folder: str, target: epath.Path) -> None:
    """Exports a checkpoint to a weight file with the original names."""
    import jax

    from jaxiqa.models import find_model
    from jaxiqa.runs.checkpoint import Saved
    from jaxiqa.scoring.card import Card
    from jaxiqa.training.state import scoring_variables
    from jaxiqa.weights.files import read_tensors, write_tensors
    from jaxiqa.weights.mapping import export_tensors, read_manifest

    saved = Saved(folder, _STEP.value)
    card = Card.from_dict(saved.meta.card, saved.workdir)
    card.create_model(saved.workdir, _ALLOW.value)
    _regressors(card.model["name"], find_model(card.model["name"], "NAMES"))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    variables = scoring_variables(**saved.load(("params", "batch_stats", "ema"), device))
    name, variant = card.model["name"], card.model["variant"]
    _verify(name, variant, variables)
    manifest = read_manifest(saved.workdir)
    carried = read_tensors(saved.workdir / CARRIED) if manifest else {}
    tensors, made_up = export_tensors(name, variables, variant, carried, manifest.get("tensors", ()), card.model)
    if _REGRESSOR.value:
        regressor = {k.removeprefix(_PREFIX): tensors.pop(k) for k in list(tensors) if k.startswith(_PREFIX)}
        write_tensors(_REGRESSOR.value, regressor)
        print(f"the regressor, {', '.join(regressor)}, is in {_REGRESSOR.value}")
    write_tensors(target, tensors)
    print(f"{len(tensors)} tensors of {name} {variant}, step {saved.step}, are in {target}")
    if card.curve or card.reference or card.interval:
        print("note: a weight file holds no curve, interval or percentiles; the checkpoint has them")
    if made_up:
        stems = sorted({re.sub(r"\d+", "N", n) for n in made_up})
        print(f"note: {len(made_up)} of them are zeros, because the model has no such parameters ({', '.join(stems)})")


def push(folder: str, repo: str) -> None:
    """Puts a checkpoint on a hub."""
    import jax

    from jaxiqa.runs import digests, hub, portable
    from jaxiqa.runs.checkpoint import Saved
    from jaxiqa.scoring.card import Card
    from jaxiqa.scoring.model_card import model_card
    from jaxiqa.scoring.stored_interval import read_interval
    from jaxiqa.training.state import scoring_variables
    from jaxiqa.weights.mapping import read_manifest

    saved = Saved(folder, _STEP.value)
    card = Card.from_dict(saved.meta.card, saved.workdir)
    card = dataclasses.replace(card, interval=card.interval or read_interval(saved.workdir, saved.step))
    licence = _LICENCE.value or read_manifest(saved.workdir).get("licence", "")
    if not licence:
        raise ConfigError(
            f"--licence is missing: {saved.workdir} names none; say which licence the weights have, e.g. Apache-2.0",
            code="missing",
            key="--licence",
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    state = jax.device_get(scoring_variables(**saved.load(("params", "batch_stats", "ema"), device)))
    source = saved.meta.source  # a calibrated checkpoint names the folder of the one that it was made from
    source = source | {key: pathlib.PurePath(source[key]).name for key in ("checkpoint",) if key in source}
    meta = dataclasses.replace(saved.meta, card=card.to_dict(), config={}, source=source)
    with tempfile.TemporaryDirectory(prefix="jaxiqa-push-") as name:
        target = epath.Path(name)
        portable.write(target, state, meta, saved.step)
        digest = digests.of_json(portable.read_about(target)[2])
        text = model_card(repo, card, saved.step, digest, licence, _report(saved.workdir, saved.step))
        write_bytes(target / portable.README, text.encode())
        where = hub.upload(name, repo)
    print(f"{card.model['name']} {card.model['variant']}, step {saved.step}, is at {where} (SHA-256 {digest})")


def _report(workdir: epath.Path, step: int) -> dict:
    """The result of the test of a run, if it is of this step; else {}."""
    try:
        found = json.loads((workdir / "report.json").read_text())
        return found if found["step"] == step and {"dataset", "part", "n", "split", "selection"} <= found.keys() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check_ignore() -> None:
    for pattern in _IGNORE.value:
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            what = f"--ignore {pattern} is not a regular expression ({error})"
            raise ConfigError(f"{what}; write \\ before a special character", code="value", key="--ignore") from error


def _verify(name: str, variant: str, variables: dict) -> None:
    if not _VERIFY.value:
        return

    from jaxiqa.weights.verify import TOLERANCE, verify

    errors = verify(name, variant, variables, _VERIFY.value)
    for tap, error in errors.items():
        print(f"{tap:10} relative error {error:.1e}")
    worst = max(errors, key=errors.get)
    if not errors[worst] <= TOLERANCE:
        raise CheckpointError(
            f"--verify {_VERIFY.value}: {worst} has a relative error of {errors[worst]:.1e}, more than {TOLERANCE:g}; "
            "check the weights and the variant",
            code="mismatch",
            key="--verify",
        )


def main() -> None:
    """The program."""
    if _INSPECT.value:
        inspect(_INSPECT.value)
    elif not _SOURCE.value:
        raise ConfigError(
            "--source is missing; name a weight file, or list one by --inspect FILE",
            code="missing",
            key="--source",
        )
    elif sum(bool(flag.value) for flag in (_PUSH, _TARGET, _OUTPUT)) > 1:
        raise ConfigError(
            "--output, --target and --push are three conversions; give one of them", code="conflict", key="--output"
        )
    elif _PUSH.value:
        push(_SOURCE.value, _PUSH.value)
    elif _TARGET.value:
        export(_SOURCE.value, epath.Path(_TARGET.value))
    elif _OUTPUT.value:
        convert(_SOURCE.value, epath.Path(_OUTPUT.value))
    else:
        raise ConfigError(
            "--output, --target or --push is missing; give --output for a new checkpoint, --target for a new weight "
            "file, or --push for a hub",
            code="missing",
            key="--output",
        )


if __name__ == "__main__":
    program.run(main, _FLAGS)
