"""The same checks for all config files."""

import ast
import functools
import re

import jax
import pytest
from refused import refused

from jaxiqa.config import check, complete, shipped
from jaxiqa.datasets import list_datasets
from jaxiqa.errors import ConfigError
from jaxiqa.models import create_model
from jaxiqa.scoring.crops import parse_policy
from jaxiqa.training.optim import freeze_report, lr_report, split_frozen
from jaxiqa.weights.initial import check_init

CONFIGS = list(shipped().values())


def load(path, arg):
    namespace: dict = {}
    exec(compile(path.read_text(), path, "exec"), namespace)
    return namespace["get_config"](arg)


@functools.cache
def abstract_params(model):
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), "float32")
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def arguments_of(path):
    """The arguments that a config file takes, read from its source."""
    text = path.read_text()
    if "ROWS = {" in text:
        return ["", "full,folder", "qen,sample", "concat,tid2013", "alpha_05,koniq10k"]
    return ["", *re.findall(r'"(\w+)"', re.search(r"check_argument\(arg, (.*)\)", text)[1])]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if "ablations" in path.stem else [], id=path.stem)
        for path in CONFIGS
        if not path.stem.startswith("dan_")
    ],
)
def test_config(path):
    assert re.search(rf"jaxiqa (train|protocol) --config {path.stem}\b", ast.get_docstring(ast.parse(path.read_text())))
    arguments = arguments_of(path)
    keys = None
    for arg in arguments:
        config = load(path, arg)
        flat = set(config.to_dict())
        assert keys is None or flat == keys
        keys = flat
        assert config.dataset.name in list_datasets()
        parse_policy(config.test_crops)
        check(config)
        assert complete(config) == config
        check_init(config.model.name, config.init)
        model = create_model(**config.model)
        params = abstract_params(model)
        freeze_report(params, config.frozen)
        trainable, _ = split_frozen(params, (*config.frozen, *getattr(model, "frozen", ())))
        lr_report(trainable, config.optimizer.lr_multipliers)
    with refused(ConfigError, "unknown", "argument", "no such"):
        load(path, "no such")


def test_paper_recipe():
    """The public code of arXiv 2408.03885: the numbers of the recipe and its frozen layers."""
    config = load(next(p for p in CONFIGS if p.stem == "glintiqa_kadid10k"), "paper")
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay, config.batch_size) == (1e-5, 1e-5, 32)
    assert (config.total, config.schedule.half_period, config.test_crops) == ("300 epochs", "30 steps", "random:25")
    params = abstract_params(create_model(**config.model))
    report = freeze_report(params, config.frozen)
    assert all(number in report for number in ("30,589,333", "41,201,877", "10,612,544"))


def test_saqt_recipes():
    """The pretraining of arXiv 2408.03885: 50 epochs of all 125 versions of each image are 6250 epochs here."""
    paths = {p.stem: p for p in CONFIGS}
    config = load(paths["glintiqa_saqt_kadid10k"], "paper")
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay, config.batch_size) == (1e-5, 1e-5, 128)
    assert (config.total, config.schedule.half_period, config.loss) == ("6250 epochs", "30 steps", "l1")
    assert config.dataset.hold_out and config.dataset.types == tuple(range(1, 26))
    fine = load(paths["glintiqa_kadid10k_from_saqt"], "paper").to_dict()
    assert fine.pop("init")["model"]
    same = load(paths["glintiqa_kadid10k"], "paper").to_dict()
    assert fine == {key: value for key, value in same.items() if key != "init"}
    assert (
        load(paths["glintiqa_kadid10k_from_saqt"], "test").model == load(paths["glintiqa_saqt_kadid10k"], "test").model
    )


def test_mfen_recipes():
    """MFEN: new parts have ten times the learning rate in our recipe; :paper is the recipe of the laboratory."""
    path = next(p for p in CONFIGS if p.stem == "mfen_koniq10k")
    ours, paper = load(path, ""), load(path, "paper")
    assert (ours.optimizer.learning_rate, ours.optimizer.weight_decay, ours.batch_size) == (2e-5, 5e-4, 64)
    assert ours.optimizer.lr_multipliers[0][1] == 10 and ours.schedule.drops == ("60 percent", "80 percent")
    assert paper.optimizer.lr_multipliers == () and paper.labels == "native" and paper.split.selection == "legacy"
    assert paper.resize == (512, 384) and paper.test_crops == "random:50" and not paper.dataset.official_split
    assert ours.total == paper.total == "250 epochs"  # 5 epochs of 50 crops of each image
