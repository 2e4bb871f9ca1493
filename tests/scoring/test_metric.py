"""create_metric: one picture in every form gives one score, and nothing is guessed."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxiqa
from jaxiqa.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(scope="module")
def metric(trained):
    return jaxiqa.create_metric("glintiqa", checkpoint=trained[0])


def test_every_form_of_a_picture_gives_the_same_score(metric, pictures):
    path = pictures / "4.png"
    image = np.asarray(Image.open(path))
    score = metric(str(path))
    assert isinstance(score, float) and np.isfinite(score)
    forms = [path, path.read_bytes(), Image.open(path), image, image.astype(np.float32) / 255, jnp.asarray(image)]
    np.testing.assert_allclose([metric(form) for form in forms], score, atol=1e-4, rtol=0)
    several = metric([path, image, pictures / "5.png"])
    assert isinstance(several, list) and several[:2] == pytest.approx([score, score], abs=1e-4)
    assert abs(several[2] - score) > 1e-4
    assert metric(np.stack([image, image])) == pytest.approx([score, score], abs=1e-4)
    assert metric([]) == []


def test_other_kinds_of_pictures(metric):
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
    ("picture", "message"),
    [
        (np.zeros((3, 64, 64), np.float32), r"shape \(3, 64, 64\).*move the channels last"),
        (np.zeros((64, 64, 3), np.float32) + 7, r"must be in 0\.\.1, not 7\.\.7"),
        (np.full((64, 64, 3), np.nan, np.float32), "must be in 0..1"),
        (np.zeros((64, 64, 3), np.int32), "int32 has no defined white"),
        (np.zeros((64, 64, 4), np.uint8), "is not an image"),
        (np.zeros((0, 64, 3), np.uint8), "is not an image"),
        (b"not a picture", "the given bytes"),
        ("no/such.png", "no/such.png"),
    ],
)
def test_what_is_refused(metric, picture, message):
    with pytest.raises(DataError, match=message):
        metric(picture)


def test_a_bad_picture_in_a_list_is_named_by_its_number(metric, pictures):
    with pytest.raises(DataError, match=r"picture 1 of 2: .*the given bytes"):
        metric([pictures / "0.png", b"x"])


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
    with pytest.raises(CheckpointError, match=f"has no step 5; it has .*{steps[-1]}"):
        jaxiqa.create_metric(checkpoint=workdir, step=5)


def test_what_is_no_checkpoint(tmp_path, trained):
    with pytest.raises(CheckpointError, match="does not exist; name the --workdir"):
        jaxiqa.create_metric(checkpoint=tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"test_metric\.py is a file; convert it first: python -m jaxiqa.convert"):
        jaxiqa.create_metric(checkpoint=__file__)
    with pytest.raises(CheckpointError, match="has no checkpoints; name the --workdir"):
        jaxiqa.create_metric(checkpoint=tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="has no finished step"):
        jaxiqa.create_metric(checkpoint=tmp_path)
    with pytest.raises(ConfigError, match=r'create_metric\("glintiqa"\): no weights come with the package'):
        jaxiqa.create_metric("glintiqa")
    with pytest.raises(ConfigError, match='did you mean "glintiqa"'):
        jaxiqa.create_metric("glintqa", checkpoint=trained[0])
    with pytest.raises(ConfigError, match="holds glintiqa, not resnet50"):
        jaxiqa.create_metric("resnet50", checkpoint=trained[0])
