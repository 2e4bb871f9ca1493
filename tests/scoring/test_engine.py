"""The engine: one result per image, in order, from batches of few shapes; an unreadable image gives its error."""

import numpy as np
import pytest

from jaxiqa.errors import DataError
from jaxiqa.scoring.engine import stream_outputs

IMAGES = [np.full((height, 4, 3), i, np.uint8) for i, height in enumerate((2, 2, 2, 5, 5, 2), 1)]


def run(items, batch_sizes=(1, 2), tiles=1, **options):
    """The results, and the shape of each batch that was computed; outputs are a tile's value and sides."""
    shapes = []

    def forward(images, sizes):
        shapes.append(images.shape)
        assert not images[sizes.prod(1) == 0].any()
        return np.concatenate([images[:, 0, 0, :1], sizes], axis=1)

    def tiles_of(image):
        return [image] * tiles, (8 if image.shape[0] > 4 else 4, 4), batch_sizes

    return list(stream_outputs(items, tiles_of, forward, **options)), shapes


def test_order_and_shapes():
    results, shapes = run(IMAGES)
    np.testing.assert_array_equal(np.stack(results)[:, 0], [[i, *x.shape[:2]] for i, x in enumerate(IMAGES, 1)])
    assert shapes == [(2, 4, 4, 3), (1, 4, 4, 3), (2, 8, 4, 3), (1, 4, 4, 3)]  # a batch ends where the sides change
    assert run([]) == ([], [])


def test_tiles_fill_batches_across_images():
    results, shapes = run(IMAGES[:3], (4,), tiles=3)
    assert [x[:, 0].tolist() for x in results] == [[i] * 3 for i in (1, 2, 3)]
    assert shapes == [(4, 4, 4, 3)] * 3


@pytest.mark.parametrize("threads", [1, 5])
def test_an_error_is_in_the_place_of_its_image(threads):
    def read(number):
        if number % 3 == 0:
            raise DataError(f"image {number} is broken")
        return IMAGES[number % len(IMAGES)]

    results, _ = run(range(20), read=read, threads=threads)
    for number, result in enumerate(results):
        if number % 3 == 0:
            assert isinstance(result, DataError) and str(result) == f"image {number} is broken"
        else:
            assert result[0, 0] == number % len(IMAGES) + 1
    with pytest.raises(DataError, match="image 0 is broken"):  # without `read` the sequence itself raises
        run(type("Broken", (), {"__len__": lambda _: 1, "__getitem__": lambda _, i: read(i)})())
