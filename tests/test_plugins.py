"""Models, datasets, losses, metrics and banks from outside: by path or entry point, never because a file names them."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import outside
import programs
import pytest
from programs import ROOT
from refused import refused

import jaxiqa
from jaxiqa import datasets, plugins
from jaxiqa.datasets.checks import recognised
from jaxiqa.distortions import draw_classes, label_classes, load_bank
from jaxiqa.errors import CheckpointError, ConfigError, DataError
from jaxiqa.evaluation.metrics import extra_metrics
from jaxiqa.inputs.contrastive import make_views
from jaxiqa.models import create_model, find_model, list_models
from jaxiqa.runs.checkpoint import save_once
from jaxiqa.runs.checkpoint_meta import CheckpointMeta
from jaxiqa.scoring.card import Card
from jaxiqa.training.losses import parse_loss
from jaxiqa.training.sharding import make_mesh

# The files that add one of each, and what each adds.
FILES = {"net.py": "model", "ratings.py": "dataset", "losses.py": "loss", "metrics.py": "metric"}
HOSTILE = ("mylab.evil", "mylabz.evil", "os.system", "..evil", "mylab.evil:run", "a.\x1b[2J")
EVIL = "open({path!r}, 'w').close()\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder on the module path; modules imported from it are removed afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    packages = {path.name for path in folder.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


@pytest.fixture
def installed(site):
    return outside.install(outside.OWN_MODEL, site)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    return outside.write_ratings(tmp_path_factory.mktemp("ratings"))


def write(site, name, text):
    path = site / f"{name.replace('.', '/')}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def card(name, **changes):
    model = {"name": name, "variant": "small"}
    values = dict(model=model, dtype="float32", labels="score01", dataset="", scale={"lo": 0, "hi": 1}, crops="grid")
    return Card.from_dict({**values, **changes}, "w")


def test_one_of_each_is_one_file_each(installed, ratings):
    assert {path.name for path in installed.glob("own_model/*.py")} == {*FILES, "__init__.py"}
    assert {"own_net"} == set(list_models()) - set(list_models_here()) and "own_ratings" in datasets.list_datasets()
    for name in ("own_net", "own_model.net"):
        model = create_model(name, "test", width=4)
        assert (model.width, model.crop_size) == (4, 64) and find_model(name).VARIANTS
    for key in ("own_ratings", "own_model.ratings"):
        dataset = datasets.load(key, ratings)
        assert dataset.name == key == datasets.find(key) and len(dataset) == 20
        assert dataset.records[1].std == 0.6 and datasets.reader(key).SCORE_RANGE == (1, 5)
    with refused(DataError, "not_found", installed / "ratings.csv"):
        datasets.load("own_model.ratings", installed)
    with pytest.raises(ConfigError):
        datasets.load("own_ratings", ratings, csv="x")
    score, label, std = jnp.array([0.5, 1.0]), jnp.array([0.0, 1.0]), jnp.array([0.2, 0.2])
    loss = parse_loss("l1 + 0.5*own_model.losses:tolerant_l1")
    assert loss.columns == ("std",)
    np.testing.assert_allclose(loss(score, label, std=std), 0.25 + 0.5 * 0.2, rtol=1e-6)
    ccc = extra_metrics(["own_model.metrics:ccc"])["ccc"]
    assert ccc([1, 2, 3], [1, 2, 3]) == 1 and ccc([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7)


def list_models_here():
    return [name for name in list_models() if name not in plugins.registered(plugins.MODELS)]


def test_somebody_elses_broken_package_breaks_only_itself(site, tmp_path):
    groups = {key: {"broken": "broken.gone"} for key in (plugins.MODELS, plugins.DATASETS)}
    outside.describe(site, "broken", ["broken"], groups)
    assert "broken" in list_models() and "broken" in datasets.list_datasets()
    assert recognised(tmp_path) == [] and datasets.fact("broken", "ALIASES") == ()
    assert create_model("glintiqa", "test") and datasets.find("KADID") == "kadid10k"
    for use in (create_model, datasets.reader):
        with refused(ConfigError, "package", "broken.gone", '"broken"'):
            use("broken")
    with refused(ConfigError, "unknown", "model", '"broken"'):
        create_model("brokn")


def test_own_names_cannot_be_taken(site):
    write(site, "mylab.net", EVIL.format(path=str(site / "imported")))
    names = {plugins.MODELS: {"glintiqa": "mylab.net"}, plugins.DATASETS: {"kadid10k": "mylab.net"}}
    outside.describe(site, "mylab", ["mylab"], names)
    assert find_model("glintiqa").__name__ == "jaxiqa.models.glintiqa"
    assert datasets.reader("KADID10K").__name__ == "jaxiqa.datasets.readers.kadid10k"
    assert not (site / "imported").exists()


@pytest.mark.parametrize(
    ("code", "value", "text"),
    [
        ("package", "RuntimeError: two lines", "raise RuntimeError('two\\nlines')"),
        ("unknown", "VARIANTS", "Model = 1"),
        ("mismatch", "flax.linen.Module", "Model, VARIANTS = dict, {'a': {}}"),
        (
            "mismatch",
            "mean, std, dtype",
            "import flax.linen as nn\nclass Model(nn.Module):\n  crop_size: int = 8\nVARIANTS = {'a': {}}",
        ),
        (
            "mismatch",
            "train=False",
            "import flax.linen as nn\nclass Model(nn.Module):\n  crop_size: int = 8\n  mean: tuple = ()\n"
            "  std: tuple = ()\n  dtype: int = 0\n  def __call__(self, x):\n    pass\nVARIANTS = {'a': {}}",
        ),
    ],
)
def test_what_is_not_a_model_is_refused_in_one_line(site, code, value, text):
    write(site, "mylab.net", text)
    with refused(ConfigError, code, "mylab.net", "mylab.net", value) as refusal:
        create_model("mylab.net")
    assert "\n" not in str(refusal.value)


def test_other_paths_that_name_nothing(site):
    write(site, "mylab.things", "LOAD = number = 3\ndef loss(score): pass\ndef odd(score, label, colour): pass\n")
    for text in ("mylab.things", "mylab.things:gone", "mylab.gone:loss", "mylab.things:", "mylab.things:number",
                 "mylab.things:loss", "l1+2*mylab.things:odd", ":loss", "l1+mylab.things:odd:odd"):  # fmt: skip
        with pytest.raises(ConfigError):
            parse_loss(text)
    for call in (find_model, datasets.reader, datasets.load, load_bank):
        for name in ("mylab.gone", ".net", "mylab..net", "os.system", "mylab.things"):
            with pytest.raises(ConfigError):
                call(name)
    for path in ("mylab.things", "mylab.things:number", "jaxiqa.evaluation.metrics:srcc"):
        with pytest.raises(ConfigError):
            extra_metrics([path])


def test_no_card_causes_an_import(site):
    write(site, "mylab.evil", EVIL.format(path=str(site / "imported")))
    for name in HOSTILE:
        with refused(CheckpointError, "unsafe", name) as refusal:
            card(name).create_model("w", allow=["mylabs", "my", "mylab.evils", ""])
        assert str(refusal.value).isprintable()
    for name in ("antigravity", "this"):
        with pytest.raises(CheckpointError) as refusal:
            card(name).create_model("w", allow=["mylabs", "my", "mylab.evils", ""])
        assert str(refusal.value).isprintable()
    for name in (3, None, ["mylab.evil"]):
        with pytest.raises(CheckpointError):
            card(name)
    assert not {"antigravity", "this", "mylab", "mylab.evil"} & set(sys.modules) and not (site / "imported").exists()
    with pytest.raises(CheckpointError):  # allowed, but not a model
        card("mylab.evil").create_model("w", allow=["mylab"])
    assert (site / "imported").exists()


def test_a_card_may_name_what_is_allowed_or_installed(installed):
    for allow, name in (((), "own_model.net"), ((), "own_net"), (["own_model"], "own_model.net")):
        assert card(name).create_model("w", allow).width == 32
    shutil.rmtree(next(installed.glob("*.dist-info")))
    with refused(CheckpointError, "unsafe", "own_model.net", "--allow own_model"):
        card("own_model.net").create_model("w")
    with refused(CheckpointError, "package", "own_net", "own-model"):
        card("own_net", package="own-model").create_model("w")
    assert card("own_model.net").create_model("w", ["own_model.net"]).width == 32
    assert "package" not in card("glintiqa").to_dict() and card("own_net", package="own-model").to_dict()["package"]


@pytest.mark.slow
def test_programs_import_nothing_that_a_checkpoint_names(tmp_path, pictures):
    """The checkpoint names modules that would write a file if imported; they are in the current folder."""
    write(tmp_path, "mylab.evil", EVIL.format(path=str(tmp_path / "imported")))
    workdirs = {}
    for model in ("mylab.evil", "cnniqa"):
        about = card(model, dataset="mylab.evil").to_dict()
        about["model"]["variant"] = "test"
        config = {"model": about["model"], "loss": "mylab.evil:f", "dataset": {"name": "mylab.evil", "data_dir": "x"}}
        network = create_model("cnniqa", "test")
        images = jnp.zeros((1, network.crop_size, network.crop_size, 3))
        variables = jax.device_get(network.init(jax.random.key(0), images))
        state = {"params": variables["params"], "batch_stats": {}}
        workdirs[model] = tmp_path / model
        save_once(workdirs[model], state, CheckpointMeta(card=about, config=config))
    evil, other = (f"--checkpoint={path}" for path in workdirs.values())
    lines = {
        ("score", evil, pictures / "1.png"): 4,
        ("evaluate", evil): 4,
        ("convert", f"--source={workdirs['mylab.evil']}", "--target=x.safetensors"): 4,
        ("compete", f"a={workdirs['mylab.evil']}", f"b={workdirs['cnniqa']}", f"--pool={pictures}", "--output=out"): 4,
        ("evaluate", other): 4,
        ("score", other, pictures / "1.png"): 0,
    }
    for (name, *arguments), code in lines.items():
        done = programs.run(name, *arguments, cwd=tmp_path)
        assert done.returncode == code, (name, arguments, done.stderr)
        assert code == 0 or ("mylab" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr)
        assert not (tmp_path / "imported").exists(), (name, arguments)
    assert programs.run("score", evil, "--allow=mylab", pictures / "1.png", cwd=tmp_path).returncode == 4
    assert (tmp_path / "imported").exists()


@pytest.mark.slow
def test_the_example_trains_scores_and_says_what_is_missing(tmp_path, ratings):
    site = outside.install(outside.OWN_MODEL, tmp_path / "site")
    changes = {"dataset.data_dir": ratings, "model.variant": "test", "batch_size": 8, "total": "6 steps"}
    changes |= {"eval_batch_size": 16, "log_every": "1 steps", "eval_every": "6 steps", "save_every": "6 steps"}
    overrides = [f"--config.{key}={value}" for key, value in changes.items()]
    command = (f"--config={outside.OWN_MODEL / 'config.py'}", f"--workdir={tmp_path / 'w'}", *overrides)
    env = {"JAX_NUM_CPU_DEVICES": "4"}
    trained = programs.run("train", *command, cwd=site, env=env)
    assert trained.returncode == 0, trained.stderr
    losses = [json.loads(line).get("loss") for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([loss for loss in losses if loss is not None]).sum() == 6
    checkpoint = f"--checkpoint={tmp_path / 'w'}"
    resumed = programs.run("train", *command, cwd=site, env=env)
    assert resumed.returncode == 0, resumed.stderr
    tested = programs.run("evaluate", checkpoint, "--metric=own_model.metrics:ccc", cwd=site)
    assert tested.returncode == 0, tested.stderr
    report = json.loads((tmp_path / "w/evaluation/own_model.ratings_test/report.json").read_text())
    assert -1 <= report["ccc"] <= 1 and report["model"] == "own_model.net" and "ccc" in tested.stdout
    score = ("score", checkpoint, ratings / "1.png")
    assert programs.run(*score, cwd=site).returncode == 0
    missing = programs.run(*score)
    assert missing.returncode == 4 and "own-model" in missing.stderr
    only_path = {"cwd": outside.OWN_MODEL}  # on the path, but not installed
    assert programs.run(*score, **only_path).returncode == 4
    assert programs.run(*score, "--allow=own_model", **only_path).returncode == 0
    unnamed = programs.run("evaluate", checkpoint, "--allow=own_model.net", **only_path)
    assert unnamed.returncode == 4 and "own_model.ratings" in unnamed.stderr
    named = programs.run("evaluate", checkpoint, "--allow=own_model.net", "--dataset=own_model.ratings", **only_path)
    assert named.returncode == 0, named.stderr


def test_create_metric_takes_the_name_as_permission(installed, tmp_path, ratings):
    model = create_model("own_model.net", "test")
    variables = jax.device_get(model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    about = card("own_model.net", model={"name": "own_model.net", "variant": "test"}, package="own-model").to_dict()
    save_once(tmp_path / "w", {"params": variables["params"], "batch_stats": {}}, CheckpointMeta(card=about))
    shutil.rmtree(next(installed.glob("*.dist-info")))
    image = ratings / "1.png"
    with refused(CheckpointError, "unsafe", "own_model.net", "own-model"):
        jaxiqa.create_metric(checkpoint=tmp_path / "w")
    score = jaxiqa.create_metric("own_model.net", tmp_path / "w")(image)
    for allow in ("own_model", ["mylab", "own_model.net"]):
        assert jaxiqa.create_metric(checkpoint=tmp_path / "w", allow=allow)(image) == score


@pytest.mark.slow
def test_a_metric_is_one_row_of_one_file(tmp_path):
    """In a copy of the package, one new row appears in reports, rounds, comparisons and figures."""
    shutil.copytree(ROOT / "jaxiqa", tmp_path / "jaxiqa", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "jaxiqa/evaluation/metrics.py"
    row = '    "rmse": Metric('
    text = table.read_text()
    assert text.count(row) == 1
    mine = '    "half": Metric(lambda pred, mos: srcc(pred, mos) / 2, headline=True),\n'
    table.write_text(text.replace(row, mine + row))
    script = """
import json, sys
import numpy as np
from jaxiqa.datasets.records import Dataset, Record, Scale
from jaxiqa.evaluation import comparison, round_results
from jaxiqa.figures import forest
from jaxiqa.scoring import rated
from jaxiqa.scoring.card import Card
from jaxiqa.scoring.predict import Prediction
from jaxiqa.scoring.rated_report import intervals
from jaxiqa.tasks.quality import Quality

records = [Record("", float(i), str(i)) for i in range(9)]
dataset = Dataset("mine", records, (0.0, 8.0), True)
card = Card({"name": "", "variant": ""}, "float32", "native", "mine", dataset.scale, "grid")
results = rated.evaluate([Prediction(float(i // 2), 0.0, 1) for i in range(9)], records, dataset, card)
fits = {f"plcc_{kind}": {"plcc": 0, "converged": True} for kind in rated.iqa_metrics.KINDS}
summary = {**results.metrics, **intervals(results), **fits}
provenance = dict.fromkeys(("part", "n", "dataset", "split", "split_fingerprint", "step", "selection", "crops"), "")
scores = np.stack([results.score, results.score + np.arange(9) % 2])
found = comparison.compare(scores, results.mos, [r.id for r in records], samples=20)
forest.draw_comparison(sys.argv[1], found, ["A", "B"], ["a", "b"], scores, results.mos)
images = [dict(score=str(i), mos=str(i), distortion="d") for i in range(9)]
cell = round_results.Cell("r", "val", 1, "t", {**summary, "higher_is_better": True}, images)
print(json.dumps({
    "metrics": results.metrics, "intervals": list(summary), "report": rated.describe(summary | provenance),
    "files": found["files"][0], "pairs": found["pairs"][0], "compared": comparison.describe(found, ["A", "B"]),
    "rounds": round_results.summarise([cell])[0], "groups": round_results.by_group([cell], "distortion")[0],
    "progress": Quality.describe(None, results.metrics),
}))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "forest.png")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    half = found["metrics"]["srcc"] / 2
    assert found["metrics"]["half"] == half == found["files"]["half"]["value"] == found["rounds"]["half_median"]
    assert (
        "half_interval" in found["intervals"]
        and "half" in found["pairs"]
        and found["groups"]["half"] == pytest.approx(0.5)
    )
    for text in (found["report"], found["progress"]):
        assert f"half {half:.4f}" in text
    assert "half difference" in found["compared"]


BANK = """
import jax.numpy as jnp
from jaxiqa.distortions import Distortion

def dim(image_HWC, factor):
    return image_HWC * factor

BANK = [Distortion(1, "dim", "brightness", [1, 0.8, 0.6, 0.4, 0.2], False, dim),
        Distortion(7, "flat", "spatial", (0.9, 0.7, 0.5, 0.3, 0.1), False, dim)]
"""


def test_a_bank_of_distortions(site):
    write(site, "mylab.bank", BANK + 'IDENTITY = [("dim", 1)]\n')
    write(site, "mylab.alone", BANK)
    bank, identity = load_bank("mylab.bank")
    classes = label_classes("type_level", bank, identity)
    assert classes[0] == [(1, 1)] and len(classes) == 10 and len(label_classes("type", *load_bank("mylab.alone"))) == 2
    types, levels, labels = draw_classes(0, 0, 20, classes)
    model = create_model("resnet", "test", num_classes=0)
    batch = {"image": np.full((20, 64, 64, 3), 200, np.uint8), "type": types, "level": levels, "label": labels}
    images, _ = make_views(model, False, make_mesh(), bank)(jax.tree.map(jnp.asarray, batch), jax.random.key(0))
    factors = {row.id: row.levels for row in bank}
    expected = [200 * factors[t][level - 1] for t, level in zip(types.tolist(), levels.tolist(), strict=True)]
    seen = 255 * (np.asarray(images[:, 0, 0, 0]) * model.std[0] + model.mean[0])
    np.testing.assert_allclose(seen, expected, atol=0.51)
    for code, wrong in (
        ("value", "BANK = [1]"),
        ("value", "BANK = []"),
        ("value", BANK + "BANK[1] = BANK[0]"),
        ("unknown", BANK + "IDENTITY = [('gone', 1)]"),
    ):
        write(site, f"mylab.wrong{len(wrong)}", wrong)
        with refused(ConfigError, code, "config.bank"):
            load_bank(f"mylab.wrong{len(wrong)}")
