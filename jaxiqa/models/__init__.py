"""Models by name. A model is one file with Model, VARIANTS, MEAN, STD, TEST_CROPS, NAMES and PAPER.

jaxiqa's own models are files of this folder. A model from outside is found by its dotted path ("mylab.net"), or by the
short name under which an installed package registers its module (entry points of the group jaxiqa.models). Its module
must define:
  Model: a Flax (Linen) module with the fields crop_size, mean, std and dtype. Called with normalised images
    (B, crop_size, crop_size, 3) and train, it returns (score (B,) fp32, out), where out is a dict.
  VARIANTS: {name: fields of Model}, at least one.
Weight files (jaxiqa convert) also need NAMES and TEST_CROPS.

A Model with a field `scales` of S > 1 integers is also called with crops of an image at S sizes,
(B, S, crop_size, crop_size, 3): in training and in scoring (inputs/scales.py).
"""

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from types import ModuleType

import flax.linen as nn

from jaxiqa import plugins
from jaxiqa.errors import ConfigError, suggest

_FIELDS = ("crop_size", "mean", "std", "dtype")


def _own() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def list_models() -> list[str]:
    """Returns the short names that create_model accepts, sorted.

    They name systems ("glintiqa"), backbones ("vit_small_patch16_224", "resnet50") and models that installed packages
    register. create_model also accepts dotted paths of other modules.
    """
    names = set(plugins.registered(plugins.MODELS))
    for name in _own():
        module = _module(name)
        names.update([v for v in module.VARIANTS if v != "test"] if _is_backbone(module) else [name])
    return sorted(names)


def _is_backbone(module: ModuleType) -> bool:
    # A backbone is named by its variants ("resnet50"), and only backbones have a number of classes.
    return any("num_classes" in options for options in module.VARIANTS.values())


def find_model(name: str, *needs: str) -> ModuleType:
    """Returns the module that defines the model `name`.

    Args:
      name: as for create_model.
      *needs: names that the module must define in addition to Model and VARIANTS.

    Raises:
      ConfigError: the model is unknown (with a suggestion), or its module cannot be imported or lacks a name.
    """
    module = _find(name)
    if missing := [need for need in needs if not hasattr(module, need)]:
        raise ConfigError(
            f"model {name}: its file must define {', '.join(missing)} for weight files", code="mismatch", key=name
        )
    return module


def _find(name: str) -> ModuleType:
    own = _own()
    if name in own:
        return _module(name)
    if plugins.is_path(name):
        return _outside(name, name)
    for module in map(_module, own):
        if name != "test" and name in module.VARIANTS and _is_backbone(module):
            return module
    if point := plugins.registered(plugins.MODELS).get(name):
        return _outside(point.value, name)
    raise ConfigError(f'there is no model "{name}"; {suggest(name, list_models())}', code="unknown", key="model")


def _outside(path: str, name: str) -> ModuleType:
    whose = f'model "{name}"'
    module = plugins.load_module(path, whose, ("Model", "VARIANTS"))
    if not (inspect.isclass(module.Model) and issubclass(module.Model, nn.Module)):
        raise ConfigError(f"{whose}: Model must be a subclass of flax.linen.Module", code="mismatch", key=name)
    if missing := [field for field in _FIELDS if field not in module.Model.__dataclass_fields__]:
        raise ConfigError(f"{whose}: Model has no field {', '.join(missing)}", code="mismatch", key=name)
    if "train" not in inspect.signature(module.Model.__call__).parameters:
        raise ConfigError(
            f"{whose}: Model.__call__ must take `train`: (self, x_BHWC, train=False)", code="mismatch", key=name
        )
    if not module.VARIANTS:
        raise ConfigError(
            f"{whose}: VARIANTS is empty; give it at least one: {{NAME: fields of Model}}", code="mismatch", key=name
        )
    return module


def create_model(name: str, variant: str | None = None, **options) -> nn.Module:
    """Creates a Flax module: `score_B, out = model.apply(variables, images_BHWC, train=False)`.

    Args:
      name: one of list_models(), or the dotted path of a module, which is imported.
      variant: a key of the model's VARIANTS; default: the name itself for backbones, else the first key.
      **options: fields of the module that override those of the variant, e.g. dtype=jnp.bfloat16, dropout=0.1.

    Raises:
      ConfigError: the name, the variant or an option is unknown.
    """
    module = find_model(name)
    variant = variant or (name if name in module.VARIANTS else next(iter(module.VARIANTS)))
    if variant not in module.VARIANTS:
        raise ConfigError(
            f'{name} has no variant "{variant}"; it has: {", ".join(module.VARIANTS)}', code="unknown", key="variant"
        )
    fields = [f for f in module.Model.__dataclass_fields__ if f not in ("parent", "name")]
    for key in options:
        if key not in fields:
            raise ConfigError(f'model {name} has no option "{key}"; {suggest(key, fields)}', code="unknown", key=key)
    return module.Model(**{**module.VARIANTS[variant], **options})


def pretrainable(name: str) -> dict[str, str]:
    """Returns {part that may start from a run of jaxiqa pretrain: key of `out` with its features} of a model."""
    return getattr(find_model(name), "PRETRAINABLE", {})


def scales_of(model: nn.Module) -> tuple[int, ...]:
    """Returns the integers by which the sides of an image are divided for each crop of a model; (1,) for most.

    0 stands for the whole image, resized to a crop.
    """
    return getattr(model, "scales", (1,))


def frozen_options(name: str, frozen: Sequence[str]) -> dict:
    """Returns the options with which BatchNorm layers under the patterns `frozen` keep their statistics in training."""
    fields = find_model(name).Model.__dataclass_fields__
    return {"eval_bn": tuple(frozen)} if frozen and "eval_bn" in fields else {}
