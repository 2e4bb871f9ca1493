"""Which types and levels the pictures of a batch get: pure functions of (seed, step), on the host."""

import numpy as np

from jaxiqa.distortions.contrastive import CONTRASTIVE, IDENTITY
from jaxiqa.distortions.table import DISTORTIONS, get_distortion

LEVELS = 5
LABEL_MODES = ("type_level", "type", "instance")
_MOST_CLASSES = 32  # of one batch: a contrastive loss wants several pictures of each


def draw(seed, step, batch_size, bank=DISTORTIONS, per_class=1):
    """The types and levels of the batch of a step.

    All (type, level) classes of the bank come once, in random order, before any comes again; so a batch is balanced to
    one picture per class, and so are the steps together.

    Args:
      seed, step: integers from 0.
      batch_size: pictures.
      bank: a table of distortions.
      per_class: pictures of every class that is drawn, next to one another.

    Returns:
      (type_B, level_B): int32 numpy arrays, numbers of the bank's rows and 1..5.

    Raises:
      ValueError: a batch that is no multiple of per_class.
    """
    if batch_size < 1 or per_class < 1 or batch_size % per_class:
        raise ValueError(f"a batch of {batch_size} is no multiple of {per_class} pictures per class")
    class_ = np.repeat(_deal(seed, step, batch_size // per_class, LEVELS * len(bank)), per_class)
    number = np.array([row.id for row in bank], np.int32)
    return number[class_ // LEVELS], (class_ % LEVELS + 1).astype(np.int32)


def label_classes(mode: str, bank=CONTRASTIVE) -> list[list[tuple[int, int]]]:
    """The classes of contrastive pretraining: for each the (type, level) cells that share its label.

    Class 0 is the pristine picture, together with the cells that change nothing. "type_level" makes a class of every
    other cell, "type" one of every type. For "instance" the classes are those of "type_level": they say what is drawn,
    while every picture is a label of its own.

    ASSUMED: the merging of identical cells. "type" is the literal reading of MFEN's abstract (arXiv 2411.07556).

    Raises:
      ValueError: unknown mode.
    """
    if mode not in LABEL_MODES:
        raise ValueError(f"label_mode {mode!r} is not one of {', '.join(LABEL_MODES)}")
    pristine = [(get_distortion(name, bank).id, level) for name, level in IDENTITY]
    cells = [[(row.id, level) for level in range(1, LEVELS + 1)] for row in bank]
    others = [[cell for cell in group if cell not in pristine] for group in cells]
    return [pristine, *(others if mode == "type" else ([cell] for group in others for cell in group))]


def draw_classes(seed, step, batch_size, classes):
    """A class-balanced batch: at most 32 classes, at least two pictures of each, and a cell of its class for each.

    As with draw(), every class comes once before any comes again.

    Args:
      seed, step: integers from 0.
      batch_size: pictures, 4 or more.
      classes: of label_classes().

    Returns:
      (type_B, level_B, label_B): int32 numpy arrays; labels are indices into `classes`.
    """
    count = min(_MOST_CLASSES, len(classes), batch_size // 2)
    dealt = _deal(seed, step, count, len(classes))
    label_B = np.resize(dealt, batch_size).astype(np.int32)  # a class's pictures are far apart: devices share the work
    rng = np.random.default_rng((seed, step, len(classes)))
    cells = np.array([classes[c][rng.integers(len(classes[c]))] for c in label_B], np.int32)
    return cells[:, 0], cells[:, 1], label_B


def _deal(seed, step, count, classes):
    """`count` class numbers for a step, dealt from one shuffled pack of all classes after the other."""
    position = step * count + np.arange(count)
    packs = {r: np.random.default_rng((seed, r)).permutation(classes) for r in np.unique(position // classes).tolist()}
    return np.array([packs[p // classes][p % classes] for p in position.tolist()])
