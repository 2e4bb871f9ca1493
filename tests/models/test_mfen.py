"""MFEN: sizes, initial values, and the parts that each switch builds."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from foreign import foreign_state_dict
from refused import refused

from jaxiqa.errors import ConfigError
from jaxiqa.models import create_model, find_model, mfen, resnet, van
from jaxiqa.models.mfen import PReLU
from jaxiqa.training import optim
from jaxiqa.weights import names
from jaxiqa.weights.mapping import abstract_leaves, export_tensors, import_tensors

# Weights of the last octave convolution's low part (high to low 9 * 192 * 64, low to low 9 * 64 * 64). The design
# counts it although nothing reads it. It is not built here.
DISCARDED_LOW_PART = 147_456


def abstract(model):
    images = jax.ShapeDtypeStruct((2, model.crop_size, model.crop_size, 3), jnp.float32)
    (_, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    return variables, out


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def by_part(params):
    """{part without its stage's number: parameters}"""
    parts = {}
    for name, tree in params.items():
        stem = name.rstrip("1234")
        parts[stem] = parts.get(stem, 0) + count(tree)
    return parts


@pytest.mark.parametrize(
    ("variant", "van", "hfen", "fusion", "projections", "head", "total"),
    [
        ("van_b0", 3_848_800, 1_103_296, 100_096, 730_112, 525_827, 29_916_259),
        ("van_b1", 13_348_800, 1_191_872, 392_704, 1_460_224, 787_971, 41_082_307),
        ("van_b2", 26_065_472, 1_191_872, 392_704, 1_460_224, 787_971, 53_798_979),
        ("van_b3", 44_252_608, 1_191_872, 392_704, 1_460_224, 787_971, 71_986_115),
    ],
)
def test_sizes(variant, van, hfen, fusion, projections, head, total):
    """The numbers of parameters are as designed, and so are the shapes of the maps of each stage."""
    model = create_model("mfen", variant)
    variables, out = abstract(model)
    assert by_part(variables["params"]) == {
        "qen": van,
        "hfen": hfen - DISCARDED_LOW_PART,
        "dan": 23_508_032,
        "ffm": fusion,
        "aff": fusion,
        "dan_proj": projections,
        "head": head,
    }
    assert count(variables["params"]) == total - DISCARDED_LOW_PART
    trainable, _ = optim.split_frozen(variables["params"], model.frozen)
    assert count(trainable) == total - DISCARDED_LOW_PART - 23_508_032
    expected = [(2, side, side, width) for side, width in zip((56, 28, 14, 7), model.widths, strict=True)]
    for maps in (
        out["hfen"],
        out["dan"],
        *([out[f"{kind}{s}"] for s in (1, 2, 3, 4)] for kind in ("stage", "ffm", "fused")),
    ):
        assert [x.shape for x in maps] == expected
    assert out["pooled"].shape == (2, sum(model.widths))


def test_default_is_b2():
    assert create_model("mfen") == create_model("mfen", "van_b2")
    assert list(find_model("mfen").VARIANTS) == ["van_b2", "van_b0", "van_b1", "van_b3", "test"]


def test_prelu():
    x = np.array([[-2.0, 0.0, 3.0]], np.float32)
    variables = PReLU().init(jax.random.key(0), x)
    np.testing.assert_array_equal(PReLU().apply(variables, x), [[-0.5, 0.0, 3.0]])
    np.testing.assert_array_equal(
        PReLU().apply({"params": {"slope": np.float32([0.1])}}, x), np.float32([[-0.2, 0, 3]])
    )


# ---- What a switch builds --------------------------------------------------------------------------------------------

ALL = "1234"
# Switches; stages with a guest from HFEN, with parameters of its fusion, with a guest from the DAN, and of its fusion.
SWITCHES = [
    ({}, ALL, ALL, ALL, ALL),
    (dict(hfen=False), "", "", ALL, ALL),
    (dict(ffm="none"), "", "", ALL, ALL),
    (dict(ffm="spatial_gate"), ALL, ALL, ALL, ALL),
    (dict(ffm="concat"), ALL, ALL, ALL, ALL),
    (dict(ffm="add"), ALL, "", ALL, ALL),
    (dict(guidance="side"), ALL, ALL, ALL, ALL),
    (dict(dan_fusion="last"), ALL, ALL, "4", "4"),
    (dict(dan_fusion="none"), ALL, ALL, "", ""),
    (dict(daf="concat"), ALL, ALL, ALL, ALL),
    (dict(daf="add"), ALL, ALL, ALL, ""),
    (dict(dan_frozen=True), ALL, ALL, ALL, ALL),
    (dict(multi_scale_head=False), ALL, ALL, "4", "4"),
    (dict(multi_scale_head=False, guidance="side"), "4", "4", "4", "4"),
    (dict(alpha=0.5), ALL, ALL, ALL, ALL),
    (dict(alpha=0.0), ALL, ALL, ALL, ALL),
    (dict(identity_start=True), ALL, ALL, ALL, ALL),
    (dict(hfen=False, dan_fusion="none"), "", "", "", ""),
]


def named(row):
    return ",".join(f"{field}={value}" for field, value in row.items()) or "none"


@pytest.mark.parametrize(("switches", "high", "ffm", "dan", "aff"), SWITCHES, ids=[named(row[0]) for row in SWITCHES])
def test_what_has_no_use_is_not_built(switches, high, ffm, dan, aff):
    """Each variable that is built has exactly one foreign name."""
    variables, out = abstract(create_model("mfen", "test", crop_size=32, **switches))
    expected = {"qen", "head"} | ({"hfen"} if high else set()) | ({"dan"} if dan else set())
    expected |= {f"ffm{s}" for s in ffm} | {f"dan_proj{s}" for s in dan} | {f"aff{s}" for s in aff}
    params = variables["params"]
    assert params.keys() == expected
    assert {name for name in params.get("hfen", {}) if name.startswith("proj")} == {f"proj{s}" for s in high}
    assert (len(out["hfen"]), len(out["dan"])) == (len(high), len(dan))
    rules = names.rules(find_model("mfen").NAMES)
    for path in traverse_util.flatten_dict(variables, sep="/"):
        (foreign,) = [f for rule in rules if (f := rule.to_foreign(path)) is not None]
        assert [o for rule in rules if (o := rule.to_ours(foreign)) is not None] == [path]


def test_wrong_switches_are_refused():
    for field, value, remedy in (
        ("ffm", "sum", "aff, spatial_gate, concat, add, none"),
        ("daf", "spatial_gate", "aff, concat, add"),
        ("dan_fusion", "first", "all, last, none"),
        ("guidance", "outline", "inline, side"),
        ("hfen", "off", "True, False"),
        ("alpha", 1.0, "0.25"),
        ("crop_size", 100, "32"),
    ):
        with refused(ConfigError, "value", field, f"{field}={value!r}", remedy):
            create_model("mfen", "test", **{field: value})


def test_frozen():
    """The DAN is not trained if it exists and is frozen."""
    assert create_model("mfen").frozen == (r"^dan/",)
    assert create_model("mfen", dan_frozen=False).frozen == create_model("mfen", dan_fusion="none").frozen == ()


def test_backbones_fit():
    """Each backbone fits its part: no variable is missing, and only its classifier is left over."""
    shapes = {path: leaf.shape for path, leaf in abstract_leaves("mfen", "van_b0").items()}
    for part, backbone, classifier in (("qen", "van_b0", "head"), ("dan", "resnet50", "fc")):
        place = find_model("mfen").BACKBONES[part]
        ours = {path: shape for path, shape in shapes.items() if path.split("/")[1] == place}
        theirs = {path: leaf.shape for path, leaf in abstract_leaves(backbone, None).items()}
        theirs = {path.replace("/", f"/{place}/", 1): s for path, s in theirs.items() if f"/{classifier}/" not in path}
        assert ours == theirs


def test_export_and_import():
    """A round trip returns all tensors, also the backbones' classifiers, which are carried."""
    tensors = foreign_state_dict("mfen", "test")
    tensors["qen.head.weight"] = np.ones((10, 48), np.float16)
    tensors["dan.fc.bias"] = np.ones(10, np.float32)
    tensors["aff2.local_att.bn1.num_batches_tracked"] = np.array(7)
    imported = import_tensors("mfen", tensors.items(), "test")
    assert len(imported.carried) == 3
    back, made_up = export_tensors("mfen", imported.variables, "test", imported.carried, imported.coverage)
    assert list(back) == list(tensors) and made_up == []
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array, err_msg=name)


# ---- Training --------------------------------------------------------------------------------------------------------

# BatchNorm over the batch removes what these add, so their gradient is rounding noise.
BEFORE_BATCH_NORM = re.compile(r"(patch_embed/proj|_att/conv[12])/bias$")


def start(model):
    """Initial variables, but NumPy draws the kernels: XLA needs minutes to compile JAX's random numbers."""
    images = np.zeros((1, model.crop_size, model.crop_size, 3), np.float32)

    def initial():
        return traverse_util.flatten_dict(model.init(jax.random.key(0), images), sep="/")

    shapes, rng = jax.eval_shape(initial), np.random.default_rng(0)
    kernels = {path for path in shapes if path.endswith("/kernel")}
    constants = jax.device_get(jax.jit(lambda: {p: x for p, x in initial().items() if p not in kernels})())
    drawn = {p: rng.standard_normal(shapes[p].shape) / np.sqrt(np.prod(shapes[p].shape[:-1])) for p in sorted(kernels)}
    return traverse_util.unflatten_dict(constants | {p: np.float32(x) for p, x in drawn.items()}, sep="/")


def small(**switches):
    """A model and a batch."""
    model = create_model("mfen", "test", crop_size=32, **switches)
    return model, np.random.default_rng(1).standard_normal((4, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def train(monkeypatch):
    """train(model, variables, x, steps): see `_train`.

    Each part of a model is a program of its own, so that it is compiled once for all switches that leave it as it is.
    """
    parts = [(mfen, name) for name in ("HighFrequencyNetwork", "Projection", "Fusion", "QualityHead")]
    for module, name in (*parts, (resnet, "Model"), (van, "Stage")):
        of_train = 3 if name == "Fusion" else 2  # the argument that is static
        monkeypatch.setattr(module, name, nn.jit(getattr(module, name), static_argnums=of_train))
    return _train


def _train(model, variables, x, steps):
    """Trains with Adam on fixed labels; returns (losses of the steps and of one more, first gradients, variables).

    The last loss is of the same programs as the others. Adam is in NumPy, so that it is not compiled at all.
    """
    params, rest = variables["params"], variables["batch_stats"]
    label_B = np.linspace(0.0, 1.0, len(x), dtype=np.float32)

    def objective(params, batch_stats):
        (score_B, _), new = model.apply(
            {"params": params, "batch_stats": batch_stats},
            x,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return jnp.square(score_B - label_B).mean(), new["batch_stats"]

    step = jax.value_and_grad(objective, has_aux=True)
    losses, grads = [], []
    m = v = jax.tree.map(np.zeros_like, params)
    for t in range(1, steps + 1):
        (loss, rest), g = jax.device_get(step(params, rest))
        losses.append(loss)
        grads.append(g)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = 1e-5 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        params = jax.tree.map(lambda p, m, v, r=rate: np.float32(p - r * m / (np.sqrt(v) + 1e-12)), params, m, v)
    losses.append(float(step(params, rest)[0][0]))
    return losses, traverse_util.flatten_dict(grads[0], sep="/"), {"params": params, "batch_stats": rest}


@pytest.mark.release
@pytest.mark.parametrize("switches", [row[0] for row in SWITCHES], ids=named)
def test_every_switch_trains(switches, train):
    """All parameters have a gradient, except those that identity_start blocks in the first step; the loss falls."""
    model, x = small(**switches)
    losses, grads, _ = train(model, start(model), x, 1)
    assert np.isfinite(losses).all() and losses[1] < losses[0]
    still = r"^dan/" if model.dan_frozen else "$^"
    if model.identity_start:
        still += r"|^hfen/(stem|hfm|proj\d/conv/)|^ffm\d/(local|global)_att/(conv|bn1/)"
    for path, g in grads.items():
        assert np.isfinite(g).all(), path
        if not BEFORE_BATCH_NORM.search(path):
            assert np.any(g) == (not re.search(still, path)), path


@pytest.mark.release
@pytest.mark.parametrize("switches", [{}, dict(identity_start=True, dan_frozen=True)], ids=named)
def test_three_steps_move_everything(switches, train):
    """Also with identity_start, where HFEN has its first gradient in the second step. A frozen DAN does not change."""
    model, x = small(**switches)
    before = start(model)
    _, _, after = train(model, before, x, 3)
    before, after = (traverse_util.flatten_dict(v, sep="/") for v in (before, after))
    assert before.keys() == after.keys()
    for path in before:
        if not BEFORE_BATCH_NORM.search(path):
            frozen = model.dan_frozen and path.split("/")[1] == "dan"
            assert np.array_equal(before[path], after[path]) == frozen, path


@pytest.mark.slow
def test_the_start_is_the_qen_alone():
    """Bit for bit: HFEN is built but does not contribute yet."""
    whole, x = small(dan_fusion="none", identity_start=True)
    alone, _ = small(dan_fusion="none", hfen=False)
    variables = start(whole)
    assert {name.rstrip("1234") for name in variables["params"]} == {"qen", "hfen", "ffm", "head"}
    kept = {kind: {part: tree[part] for part in ("qen", "head") if part in tree} for kind, tree in variables.items()}
    score, out = whole.apply(variables, x)
    expected, taps = alone.apply(kept, x)
    np.testing.assert_array_equal(score, expected)
    assert len(np.unique(score)) == len(x)
    for s in (1, 2, 3, 4):
        np.testing.assert_array_equal(out[f"ffm{s}"], out[f"stage{s}"])
        np.testing.assert_array_equal(out[f"stage{s}"], taps[f"stage{s}"])
        assert np.any(out[f"stage{s}"])
    variables["params"]["hfen"]["proj1"]["bn"]["scale"] = np.ones(whole.widths[0], np.float32)  # now the guest is not 0
    assert np.all(whole.apply(variables, x)[0] != score)
