"""Draws the types and levels of a batch's images: pure functions of (seed, step), on the host."""

import dataclasses

import numpy as np

from jaxiqa import plugins
from jaxiqa.distortions.crop_bank import CONTRASTIVE, IDENTITY
from jaxiqa.distortions.table import DISTORTIONS, Distortion, get_distortion
from jaxiqa.errors import ConfigError

LEVELS = 5
LABEL_MODES = ("type_level", "type", "instance")
_MOST_CLASSES = 32  # of one batch: a contrastive loss needs several images of each class


def draw(seed, step, batch_size, bank=DISTORTIONS, per_class=1):
    """Draws the types and levels of the batch of a step.

    All (type, level) classes of the bank are drawn once, in random order, before any is drawn again. So the classes are
    balanced within a batch and over all steps.

    Args:
      seed, step: integers from 0.
      batch_size: number of images.
      bank: a table of distortions.
      per_class: number of images of each class that is drawn; they are adjacent.

    Returns:
      (type_B, level_B): int32 numpy arrays, numbers of the bank's rows and 1..5.

    Raises:
      ValueError: batch_size is not a multiple of per_class.
    """
    if batch_size < 1 or per_class < 1 or batch_size % per_class:
        raise ValueError(f"a batch of {batch_size} is not a multiple of {per_class} images per class")
    class_ = np.repeat(_deal(seed, step, batch_size // per_class, LEVELS * len(bank)), per_class)
    number = np.array([row.id for row in bank], np.int32)
    return number[class_ // LEVELS], (class_ % LEVELS + 1).astype(np.int32)


def load_bank(path: str) -> tuple[tuple[Distortion, ...], tuple[tuple[str, int], ...]]:
    """Returns the bank of contrastive pretraining, and its (name, level) cells that do not change an 8-bit image.

    Args:
      path: "" for CONTRASTIVE, or the path of a module outside jaxiqa ("mylab.bank"), which is imported. It must define
        BANK, Distortions with different names and ids. It may define IDENTITY, the cells that do not change an image.

    Raises:
      ConfigError: the module cannot be imported, or its BANK or IDENTITY cannot be used.
    """
    if not path:
        return CONTRASTIVE, IDENTITY
    whose = f'bank "{path}"'
    module = plugins.load_module(path, whose, ("BANK",))
    bank, identity = tuple(module.BANK), tuple(getattr(module, "IDENTITY", ()))
    if not bank or not all(isinstance(row, Distortion) and len(row.levels) == LEVELS for row in bank):
        raise ConfigError(
            f"{whose}: BANK must be a tuple of jaxiqa.distortions.Distortion, each with {LEVELS} levels",
            code="value",
            key="config.bank",
        )
    for key in ("id", "name"):
        if len({getattr(row, key) for row in bank}) < len(bank):
            raise ConfigError(f"{whose}: two rows of BANK have the same {key}", code="value", key="config.bank")
    if unknown := [cell for cell in identity if cell[0] not in {row.name for row in bank}]:
        raise ConfigError(
            f"{whose}: IDENTITY names {unknown[0][0]}, which is not in BANK", code="unknown", key="config.bank"
        )
    return tuple(dataclasses.replace(row, levels=tuple(row.levels)) for row in bank), identity


def label_classes(mode: str, bank=CONTRASTIVE, identity=IDENTITY) -> list[list[tuple[int, int]]]:
    """Returns the classes of contrastive pretraining: for each, the (type, level) cells that share its label.

    Class 0 is the pristine image: the cells of `identity`, which change nothing. Without such cells there is no such
    class. With "type_level" every other cell is a class; with "type" every type is one. "instance" has the classes of
    "type_level", but only for drawing: each image has its own label.

    ASSUMED: the merging of identical cells. "type" is the literal reading of MFEN's abstract (arXiv 2411.07556).

    Raises:
      ValueError: the mode is unknown.
    """
    if mode not in LABEL_MODES:
        raise ValueError(f"label_mode {mode!r} is not one of {', '.join(LABEL_MODES)}")
    pristine = [(get_distortion(name, bank).id, level) for name, level in identity]
    cells = [[(row.id, level) for level in range(1, LEVELS + 1)] for row in bank]
    others = [[cell for cell in group if cell not in pristine] for group in cells]
    others = others if mode == "type" else [[cell] for group in others for cell in group]
    return [pristine, *others] if pristine else others


def draw_classes(seed, step, batch_size, classes):
    """Draws a class-balanced batch: at most 32 classes, at least two images of each, each with a cell of its class.

    As in draw(), every class is drawn once before any is drawn again.

    Args:
      seed, step: integers from 0.
      batch_size: number of images, 4 or more.
      classes: from label_classes().

    Returns:
      (type_B, level_B, label_B): int32 numpy arrays; labels are indices into `classes`.
    """
    count = min(_MOST_CLASSES, len(classes), batch_size // 2)
    dealt = _deal(seed, step, count, len(classes))
    # Images of one class are far apart, so that devices share the work.
    label_B = np.resize(dealt, batch_size).astype(np.int32)
    rng = np.random.default_rng((seed, step, len(classes)))
    cells = np.array([classes[c][rng.integers(len(classes[c]))] for c in label_B], np.int32)
    return cells[:, 0], cells[:, 1], label_B


def _deal(seed, step, count, classes):
    """Returns `count` class numbers for a step, from a sequence of shuffled packs of all classes."""
    position = step * count + np.arange(count)
    packs = {r: np.random.default_rng((seed, r)).permutation(classes) for r in np.unique(position // classes).tolist()}
    return np.array([packs[p // classes][p % classes] for p in position.tolist()])
