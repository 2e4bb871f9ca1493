"""Features: those of the image without its padding, on any number of devices, in the order of the names."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from refused import refused

from jaxiqa.errors import CheckpointError, DataError
from jaxiqa.inputs.transforms import normalise
from jaxiqa.models import create_model
from jaxiqa.runs.checkpoint import save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.saqt import pool_features
from jaxiqa.saqt.feature_file import read_features, write_features
from jaxiqa.saqt.features import (
    Extractor,
    features_of,
    load_backbone,
    padded_side,
    pooled_features,
    untrained_backbone,
)
from jaxiqa.saqt.matching import Matcher
from jaxiqa.training import sharding


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


@pytest.fixture(scope="module")
def backbone(mesh):
    """The tiny ResNet with statistics and affine parameters that make padding visible: zero in, something out."""
    backbone, rng = untrained_backbone("test", mesh), np.random.default_rng(0)

    def filled(path, leaf):
        name = path[-1].key
        if name in ("bias", "mean"):
            return rng.normal(0, 0.5, leaf.shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32) if name in ("scale", "var") else leaf

    variables = jax.tree_util.tree_map_with_path(filled, jax.device_get(backbone.variables))
    return dataclasses.replace(backbone, variables=jax.device_put(variables, sharding.replicated(mesh)))


def unpadded(backbone, image):
    """The features of one image by the plain network."""
    model = backbone.model
    x = normalise(image[None], model.mean, model.std)
    with jax.default_matmul_precision("highest"):
        _, out = jax.jit(model.apply)(jax.device_get(backbone.variables), x)
    feature = np.asarray(out["stage4"], np.float64).mean((0, 1, 2))
    return feature / np.linalg.norm(feature)


def padded(backbone, images, sizes):
    return jax.jit(pooled_features, static_argnums=0)(backbone.model, jax.device_get(backbone.variables), images, sizes)


# Sides that none of the strides 2, 4, 8, 16, 32 divides, and some smaller than a stride.
SIZES = [(96, 128), (65, 97), (67, 113), (71, 126), (1, 1), (5, 120)]


def test_padding_changes_nothing(backbone):
    rng = np.random.default_rng(1)
    images = np.zeros((len(SIZES) + 1, 96, 128, 3), np.uint8)
    pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    for image, picture in zip(images, pictures, strict=False):
        image[: picture.shape[0], : picture.shape[1]] = picture
    sizes = np.array([*SIZES, (0, 0)], np.int32)
    features = np.asarray(padded(backbone, images, sizes))
    expected = np.stack([unpadded(backbone, picture) for picture in pictures])
    assert np.abs(features[:-1] - expected).max() < 1e-6
    assert np.isfinite(features[-1]).all()  # of a place without an image
    plain = np.stack([unpadded(backbone, image) for image in images[1:-1]])
    assert np.abs(plain - expected[1:]).max() > 0.01  # without the masks the padding shows


def test_four_lengths_per_doubling():
    assert [padded_side(n) for n in (1, 32, 33, 257, 321, 384, 385, 512, 513, 1024, 1025)] == [
        32, 32, 64, 320, 384, 384, 448, 512, 640, 1024, 1280,
    ]  # fmt: skip
    sides = np.arange(1, 9000)
    padded = np.array([padded_side(int(n)) for n in sides])
    assert (padded >= sides).all() and (padded % 32 == 0).all() and (np.diff(padded) >= 0).all()
    assert (padded[sides > 256] < 1.25 * sides[sides > 256]).all()
    assert all(len(set(padded[(padded > 2**n) & (padded <= 2 ** (n + 1))])) == 4 for n in range(7, 13))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """23 images of five sizes, and two that cannot be read; {name: path}."""
    folder, rng = tmp_path_factory.mktemp("pool"), np.random.default_rng(2)
    sizes = [(64, 64), (70, 90), (100, 70), (64, 64), (120, 128)]
    names = [f"{i:02d}.png" for i in range(25)]
    for i, name in enumerate(names):
        Image.fromarray(rng.integers(0, 256, (*sizes[i % 5], 3), np.uint8)).save(folder / name)
    (folder / names[3]).write_bytes(b"no image")
    (folder / names[17]).write_bytes((folder / names[17]).read_bytes()[:200])  # its header is sound
    return {name: str(folder / name) for name in names}


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 3), pytest.param(4, 32, marks=pytest.mark.slow)])
def test_files_to_features(backbone, files, devices, batch_size):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1), sharding.AXES)
    variables = jax.device_put(jax.device_get(backbone.variables), sharding.replicated(mesh))
    extractor = Extractor(dataclasses.replace(backbone, variables=variables), mesh, batch_size)
    features, reasons = extractor(list(files.values()), "test")
    assert sorted(reasons) == [3, 17] and "03.png" in reasons[3] and "17.png" in reasons[17]
    assert not features[[3, 17]].any() and features.dtype == np.float32
    for i in (0, 1, 2, 4, 24):
        expected = unpadded(backbone, np.asarray(Image.open(list(files.values())[i])))
        assert np.abs(features[i] - expected).max() < 1e-6
    assert extractor.compiled_shapes == 4  # 64 x 64, 96 x 96, 128 x 96, 128 x 128


def test_features_are_read_again(backbone, mesh, files, tmp_path):
    extractor = Extractor(backbone, mesh, 8)
    file = str(tmp_path / "features.npz")
    first = features_of(files, file, extractor, "test")
    assert first.names == [name for name in files if name not in ("03.png", "17.png")]
    assert set(first.about["refused"]) == {"03.png", "17.png"} and first.about["network"] == "test"
    one = extractor([files["05.png"]], "test")[0][0]
    np.testing.assert_allclose(first.read()[first.names.index("05.png")], one, atol=1e-6)
    assert [len(block) for block in first.blocks(10)] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate(list(first.blocks(10))), first.read())

    class Never:
        about = extractor.about

    assert features_of(files, file, Never(), "test") == first
    fewer = dict(list(files.items())[:2])
    again = features_of(fewer, file, extractor, "test")  # the file holds other images
    assert again.names == list(fewer)


def test_not_one_usable_image(backbone, mesh, files, tmp_path):
    extractor = Extractor(backbone, mesh, 8)
    features, reasons = extractor([files["03.png"]], "test")
    assert features.shape == extractor([files["05.png"]], "test")[0].shape and list(reasons) == [0]
    with refused(DataError, "empty", "--pictures", "03.png"):
        Matcher({"03.png": files["03.png"]}, extractor, mesh, str(tmp_path))


def test_shares_are_joined(backbone, mesh, files, tmp_path, monkeypatch):
    """Two processes, called one after the other, write the same features as one process."""
    extractor, file = Extractor(backbone, mesh, 8), str(tmp_path / "features.npz")
    expected = features_of(files, str(tmp_path / "one.npz"), extractor, "test")
    monkeypatch.setattr(pool_features.jax, "process_count", lambda: 2)
    monkeypatch.setattr(pool_features, "from_first", lambda value: value)
    met = []
    monkeypatch.setattr(pool_features, "meet", lambda: met.append(sorted(p.name for p in tmp_path.iterdir())))
    monkeypatch.setattr(pool_features.jax, "process_index", lambda: 1)
    with refused(DataError, "damaged", None, "features.npz"):  # the share of the first process is missing
        pool_features.features_of_shares(files, file, extractor, "test")
    assert met[0] == ["features.2-of-2.npz", "one.npz"]
    monkeypatch.setattr(pool_features.jax, "process_index", lambda: 0)
    joined = pool_features.features_of_shares(files, file, extractor, "test")
    assert joined.names == expected.names and joined.about == expected.about
    assert list(joined.about["refused"]) == ["03.png", "17.png"]
    np.testing.assert_allclose(joined.read(), expected.read(), atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.npz", "one.npz"]


def test_names_of_any_bytes(tmp_path):
    names = ["a.png", "b\udcff.png", "ü/ö.png"]
    write_features(tmp_path / "f.npz", names, np.eye(3, 4), {"network": "test"})
    found = read_features(tmp_path / "f.npz")
    assert (found.names, found.about) == (names, {"network": "test"})
    np.testing.assert_array_equal(found.read(), np.eye(3, 4, dtype=np.float32))
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_damaged_features_are_refused(tmp_path):
    path = tmp_path / "f.npz"
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    write_features(path, [f"{i}.png" for i in range(50)], features, {})
    data = bytearray(path.read_bytes())
    at = bytes(data).index(features[20].tobytes()) + 7
    data[at] ^= 1 << 2
    path.write_bytes(data)
    with refused(DataError, "damaged", path, "remove it"):
        read_features(path).read()
    path.write_bytes(data[:300])
    with refused(DataError, "damaged", path):
        read_features(path)
    write_features(path, ["a", "b"], 2 * np.eye(2), {})
    with refused(DataError, "damaged", path, "length 1"):
        read_features(path).read()
    write_features(path, ["a"], np.eye(2), {})
    with refused(DataError, "damaged", path, "2 features and 1 names"):
        read_features(path).read()


def test_only_a_converted_resnet_is_taken(backbone, mesh, tmp_path):
    state = {"params": jax.device_get(backbone.variables["params"]), "batch_stats": {}}
    state["batch_stats"] = jax.device_get(backbone.variables["batch_stats"])
    card, source = {"model": {"name": "resnet50", "variant": "test"}}, {"file": "r.pth", "sha256": "0" * 64}
    save_once(tmp_path / "good", state, CheckpointMeta(card=card, source=source))
    loaded = load_backbone(str(tmp_path / "good"), mesh)
    assert loaded.about == {"network": "test", "source": source}
    for ours, theirs in zip(*(jax.tree.leaves(b.variables) for b in (loaded, backbone)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    glintiqa = {"model": {"name": "glintiqa", "variant": "test"}}
    save_once(tmp_path / "other", state, CheckpointMeta(card=glintiqa, source=source))
    with refused(CheckpointError, "mismatch", None, "glintiqa", "resnet101"):
        load_backbone(str(tmp_path / "other"), mesh)
    save_once(tmp_path / "trained", state, CheckpointMeta(card=card))
    with refused(CheckpointError, "mismatch", None, "resnet50", "resnet101"):
        load_backbone(str(tmp_path / "trained"), mesh)


@pytest.mark.slow
def test_padding_changes_nothing_for_resnet50(mesh):
    """The network of published features, at a size that no stride divides."""
    backbone = untrained_backbone("resnet50", mesh)
    picture = np.random.default_rng(3).integers(0, 256, (83, 117, 3), np.uint8)
    image = np.zeros((1, 96, 128, 3), np.uint8)
    image[0, :83, :117] = picture
    feature = np.asarray(padded(backbone, image, np.array([[83, 117]], np.int32)))[0]
    expected = unpadded(backbone, picture)
    print(f"ResNet-50, padded against unpadded: {np.abs(feature - expected).max():.1e} of {np.abs(expected).max():.1e}")
    assert np.abs(feature - expected).max() < 1e-6
    assert create_model("resnet50").num_classes == 1000  # only the backbone of features leaves out the classifier
