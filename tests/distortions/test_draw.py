"""The classes of contrastive pretraining, and the draws of them."""

import collections

import numpy as np
import pytest

from jaxiqa.distortions import CONTRASTIVE, draw_classes, label_classes
from jaxiqa.distortions.crop_bank import IDENTITY


def test_every_cell_has_one_class():
    for mode, count in (("type_level", 117), ("type", 25), ("instance", 117)):
        classes = label_classes(mode)
        assert len(classes) == count
        cells = [cell for class_ in classes for cell in class_]
        assert sorted(cells) == sorted((row.id, level) for row in CONTRASTIVE for level in range(1, 6))
        assert len(classes[0]) == len(IDENTITY) == 4
    with pytest.raises(ValueError, match="label_mode 'levels' is not one of type_level, type, instance"):
        label_classes("levels")


@pytest.mark.parametrize("mode", ["type_level", "type"])
def test_a_batch_is_balanced(mode):
    classes = label_classes(mode)
    types, levels, labels = draw_classes(3, 5, 256, classes)
    counts = collections.Counter(labels.tolist())
    assert len(counts) == min(32, len(classes))
    assert set(counts.values()) <= {256 // len(counts), 256 // len(counts) + 1}
    assert all(
        (t, level) in classes[c] for t, level, c in zip(*map(np.ndarray.tolist, (types, levels, labels)), strict=True)
    )
    if mode == "type":  # any level of a type
        assert len({(t, level) for t, level in zip(types.tolist(), levels.tolist(), strict=True)}) > len(classes)


def test_all_classes_are_drawn_equally_often_and_depend_only_on_seed_and_step():
    classes = label_classes("type_level")
    seen = collections.Counter(c for step in range(117) for c in set(draw_classes(0, step, 64, classes)[2].tolist()))
    assert max(seen.values()) - min(seen.values()) <= 1 + 32 // 10  # a batch of two packs may have a class twice
    first, again, other = (draw_classes(1, step, 32, classes) for step in (7, 7, 8))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[2] != other[2]).any()


def test_small_batches_still_have_pairs():
    _, _, labels = draw_classes(0, 0, 8, label_classes("type_level"))
    assert sorted(collections.Counter(labels.tolist()).values()) == [2, 2, 2, 2]
