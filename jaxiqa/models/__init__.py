"""Models by name. A model is one file in this folder with Model, VARIANTS, MEAN, STD, TEST_CROPS, NAMES and PAPER."""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

import flax.linen as nn

from jaxiqa.errors import ConfigError, suggest


def _modules() -> dict[str, ModuleType]:
    modules = {m.name: importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in modules.items() if hasattr(module, "VARIANTS")}


def list_models() -> list[str]:
    """Names that create_model takes: systems ("glintiqa") and backbones ("vit_small_patch16_224", "resnet50")."""
    names = []
    for name, module in _modules().items():
        names += [v for v in module.VARIANTS if v != "test"] if _is_backbone(module) else [name]
    return sorted(names)


def _is_backbone(module: ModuleType) -> bool:
    # A backbone's own names ("resnet50") are the names of its variants; systems have no such entry.
    return any("num_classes" in options for options in module.VARIANTS.values())


def find_model(name: str) -> ModuleType:
    """The module that defines the model `name`; ConfigError with a suggestion where there is none."""
    modules = _modules()
    if name in modules:
        return modules[name]
    for module in modules.values():
        if name != "test" and name in module.VARIANTS and _is_backbone(module):
            return module
    raise ConfigError(f'there is no model "{name}"; {suggest(name, list_models())}')


def create_model(name: str, variant: str | None = None, **options) -> nn.Module:
    """A Flax module: `score_B, out = model.apply(variables, images_BHWC, train=False)`.

    Args:
      name: one of list_models().
      variant: a key of the model's VARIANTS; default: the name itself for backbones, else the first one.
      **options: fields of the module that override the variant's, e.g. dtype=jnp.bfloat16, dropout=0.1.

    Raises:
      ConfigError: unknown name, variant or option.
    """
    module = find_model(name)
    variant = variant or (name if name in module.VARIANTS else next(iter(module.VARIANTS)))
    if variant not in module.VARIANTS:
        raise ConfigError(f'{name} has no variant "{variant}"; it has: {", ".join(module.VARIANTS)}')
    fields = [f for f in module.Model.__dataclass_fields__ if f not in ("parent", "name")]
    for key in options:
        if key not in fields:
            raise ConfigError(f'model {name} has no option "{key}"; {suggest(key, fields)}')
    return module.Model(**{**module.VARIANTS[variant], **options})


def pretrainable(name: str) -> dict[str, str]:
    """Parts of a model that may start from a run of jaxiqa.pretrain, and the key of `out` with the features of each."""
    return getattr(find_model(name), "PRETRAINABLE", {})


def frozen_options(name: str, frozen: Sequence[str]) -> dict:
    """Options of a model whose BatchNorm layers under the patterns `frozen` keep their statistics in training."""
    fields = find_model(name).Model.__dataclass_fields__
    return {"eval_bn": tuple(frozen)} if frozen and "eval_bn" in fields else {}
