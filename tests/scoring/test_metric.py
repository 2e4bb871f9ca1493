"""create_metric: all forms of an image have the same score, and what is not clear is refused."""

import copy
import os
import pathlib
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from refused import refused

import jaxiqa
from jaxiqa.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(scope="module")
def metric(trained):
    return jaxiqa.create_metric("cnniqa", checkpoint=trained[0])


def test_every_form_of_an_image_gives_the_same_score(metric, pictures):
    path = pictures / "4.png"
    image = np.asarray(Image.open(path))
    score = metric(str(path))
    assert isinstance(score, float) and np.isfinite(score)
    with Image.open(path) as opened:
        forms = [path, path.read_bytes(), opened, image, image.astype(np.float32) / 255, jnp.asarray(image)]
        np.testing.assert_allclose([metric(form) for form in forms], score, atol=1e-4, rtol=0)
    several = metric([path, image, pictures / "5.png"])
    assert isinstance(several, list) and several[:2] == pytest.approx([score, score], abs=1e-4)
    assert abs(several[2] - score) > 1e-4
    assert metric(np.stack([image, image])) == pytest.approx([score, score], abs=1e-4)
    assert metric([]) == []


def test_other_kinds_of_images(metric):
    grey = np.full((70, 90), 100, np.uint8)
    score = metric(grey)
    assert metric(np.repeat(grey[..., None], 3, axis=2)) == score
    assert metric(Image.fromarray(grey)) == score
    assert np.isfinite(metric(np.zeros((20, 30, 3), np.uint8)))  # smaller than a crop: enlarged
    rotated = Image.fromarray(np.arange(70 * 90 * 3, dtype=np.uint8).reshape(70, 90, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated.getexif().update(exif)
    upright = rotated.transpose(Image.Transpose.ROTATE_270)
    assert metric(rotated) == metric(np.asarray(upright))


@pytest.mark.parametrize(
    ("image", "code", "named"),
    [
        (np.zeros((3, 64, 64), np.float32), "format", ("(3, 64, 64)", "channels last")),
        (np.zeros((64, 64, 3), np.float32) + 7, "value", ("0..1", "7..7")),
        (np.full((64, 64, 3), np.nan, np.float32), "value", ("0..1",)),
        (np.zeros((64, 64, 3), np.int32), "format", ("int32",)),
        (np.zeros((64, 64, 5), np.uint8), "format", ("(64, 64, 5)",)),
        (None, "format", ("None",)),
        (np.zeros((0, 64, 3), np.uint8), "format", ("(0, 64, 3)",)),
        (b"not an image", "format", ("the given bytes",)),
        ("no/such.png", "not_found", ("no/such.png",)),
    ],
)
def test_what_is_refused(metric, image, code, named):
    with refused(DataError, code, None, *named):
        metric(image)


def test_a_bad_image_in_a_list_is_named_by_its_number(metric, pictures):
    with refused(DataError, "format", None, "images[1] of 2", "the given bytes"):
        metric([pictures / "0.png", b"x"])
    with refused(DataError, "format", None, "images[1] of 2", "None"):
        metric([pictures / "0.png", None])
    with refused(DataError, "format", None, "images[1]: ", "the given bytes"):
        metric(image for image in [pictures / "0.png", b"x"])


def test_collections_are_scored_in_their_order(metric, pictures, monkeypatch):
    paths = [pictures / f"{i}.png" for i in range(5)]
    expected = metric(paths)
    assert len({*expected}) == 5
    monkeypatch.setattr("jaxiqa.scoring.metric._PART", 2)
    for form in (
        iter(paths),
        map(pathlib.Path.read_bytes, paths),
        np.array(paths, object),
        dict.fromkeys(paths).keys(),
    ):
        assert metric(form) == pytest.approx(expected, abs=1e-4)


def test_an_iterator_that_fails_raises_its_own_error(metric, pictures):
    def images():
        yield pictures / "0.png"
        raise OSError("the stream has ended")

    with pytest.raises(OSError, match="the stream has ended"):
        metric(images())


def test_copies_load_the_same_step_once(trained, metric, pictures):
    one = jaxiqa.create_metric(checkpoint=trained[0], step=4, crops="random:4")
    first, second = copy.deepcopy(one), pickle.loads(pickle.dumps(one))
    assert first(pictures / "0.png") == one(pictures / "0.png") and first.scorer is second.scorer
    assert (first.scorer.step, first.scorer.card.crops) == (4, "random:4")
    assert len(pickle.dumps(one)) < 1000  # no weights
    assert pickle.loads(pickle.dumps(metric)).scorer.step == metric.scorer.step


def test_a_forked_process_is_refused_and_does_not_hang(metric, trained, pictures, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a child
    for use in (lambda: metric(pictures / "0.png"), lambda: jaxiqa.create_metric(checkpoint=trained[0])):
        with refused(ConfigError, "conflict", "fork", '"spawn"'):
            use()


def test_random_crops_repeat(trained, pictures):
    one = jaxiqa.create_metric(checkpoint=trained[0], crops="random:4")
    assert one(pictures / "0.png") == one((pictures / "0.png").read_bytes())
    assert one.scorer.card.crops == "random:4" and one.lower_better is False and one.score_range == (0.0, 100.0)


def test_which_step(trained):
    workdir = pathlib.Path(trained[0])
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    best = jaxiqa.create_metric(checkpoint=workdir).scorer.step
    assert best in (3, 6) and steps[-1] == 6
    assert jaxiqa.create_metric(checkpoint=workdir, step=6).scorer.step == 6
    assert jaxiqa.create_metric(checkpoint=workdir / "checkpoints" / "6").scorer.step == 6
    with refused(CheckpointError, "not_found", None, "step 5", str(steps[-1])):
        jaxiqa.create_metric(checkpoint=workdir, step=5)


def test_a_folder_in_place_of_a_name(tmp_path):
    with refused(ConfigError, "value", "name", "checkpoint="):
        jaxiqa.create_metric(str(tmp_path))


def test_what_is_no_checkpoint(tmp_path, trained):
    with refused(CheckpointError, "not_found", None, "--workdir"):
        jaxiqa.create_metric(checkpoint=tmp_path / "none")
    with refused(CheckpointError, "format", None, "test_metric.py", "jaxiqa convert"):
        jaxiqa.create_metric(checkpoint=__file__)
    with refused(CheckpointError, "not_found", None, "--workdir"):
        jaxiqa.create_metric(checkpoint=tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with refused(CheckpointError, "not_found", None, "finished step"):
        jaxiqa.create_metric(checkpoint=tmp_path)
    with refused(ConfigError, "missing", "checkpoint", "glintiqa"):
        jaxiqa.create_metric("glintiqa")
    with refused(ConfigError, "unknown", None, "glintiqa"):
        jaxiqa.create_metric("glintqa", checkpoint=trained[0])
    with refused(ConfigError, "mismatch", "checkpoint", "cnniqa", "resnet50"):
        jaxiqa.create_metric("resnet50", checkpoint=trained[0])
