"""The table of keys: defaults, values that can and cannot work (F16), and how config files are found and read."""

import pathlib
import sys

import pytest
from absl import flags
from ml_collections import ConfigDict
from refused import refused
from tiny_run import ROOT, check_refusals, make_config

from jaxiqa import shared_flags
from jaxiqa.config import (
    FREE,
    KEYS,
    MOVED,
    NEVER,
    OVERRIDE,
    PROGRAMS,
    TUNED,
    check,
    complete,
    default_config,
    keys_like,
    load,
    shipped,
)
from jaxiqa.errors import ConfigError
from jaxiqa.training.loop import check_training

OLD = pathlib.Path(__file__).parent / "faults" / "goldens" / "0.1.0" / "cnniqa_live.py"

BAD = [
    ("seed", -1),
    ("seed", 2**32),
    ("model.dropout", 2.0),
    ("model.dropout", 1.0),
    ("resize", -5),
    ("resize", (512, 0)),
    ("resize", (512,)),
    ("resize", "large"),
    ("cache_gb", -1.0),
    ("cache_gb", float("nan")),
    ("accumulate", 0),
    ("ema", 1.0),
    ("optimizer.learning_rate", 0.0),
    ("optimizer.learning_rate", float("inf")),
    ("optimizer.learning_rate", "1e-3"),
    ("optimizer.weight_decay", -1e-4),
    ("optimizer.b1", 1.0),
    ("optimizer.b2", -0.1),
    ("optimizer.eps", 0.0),
    ("optimizer.grad_clip_norm", -1.0),
    ("optimizer.grad_skip_norm", -1.0),
    ("frozen", "^vgfe/"),  # a loop would read it as seven patterns
    ("optimizer.lr_multipliers", "^vgfe/"),
    ("flip_vertical", 1),
    ("mesh.fsdp", 0),
]


def config_with(key, value) -> ConfigDict:
    config = make_config("pictures").copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({key: value})
    return config


@pytest.mark.parametrize(("key", "value"), BAD)
def test_a_value_that_cannot_work(key, value):
    with refused(ConfigError, "value", f"config.{key}", f"config.{key}={value}"):
        check(config_with(key, value))


@pytest.mark.parametrize("total", ["1e400 epochs", "1e999", "1e400 examples"])
def test_an_endless_run(total):
    with refused(ConfigError, "value", "config.total", f'"{total}"', "2,147,483,647"):
        check_training(config_with("total", total))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2**32 - 1),
        ("model.dropout", 0.0),
        ("resize", 0),
        ("resize", 384),
        ("resize", (512, 384)),
        ("cache_gb", 0.0),
        ("optimizer.b1", 0.0),
        ("optimizer.grad_clip_norm", 0.0),
    ],
)
def test_a_value_that_can_work(key, value):
    check(config_with(key, value))


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [("crop", "center", "random, centre"), ("split.selection", "test", "val, legacy"), ("labels", "mos", "score01")],
)
def test_a_value_that_is_not_one_of_a_list(key, value, allowed):
    with refused(ConfigError, "value", f"config.{key}", f'config.{key}="{value}"', allowed):
        check(config_with(key, value))


@pytest.mark.parametrize("task", PROGRAMS)
def test_defaults_can_work(task):
    config = default_config(task)
    check(config)
    check_training(config)
    assert complete({}, task) == config


def test_every_key_has_a_comment_and_a_task():
    for name, key in KEYS.items():
        assert (
            key.comment and key.resume in (FREE, MOVED, OVERRIDE, TUNED, NEVER) and set(key.tasks) <= set(PROGRAMS)
        ), name
        assert name.count(".") <= 1 and key.tasks, name


def test_missing_keys_receive_their_defaults():
    """The given values stay, with options of a model or a dataset."""
    given = {"model": {"name": "own", "width": 3}, "dataset": {"name": "mine"}, "total": 100}
    for config in (given, ConfigDict(given), ConfigDict(given).lock()):
        whole = complete(config)
        assert whole.model.to_dict() == {"name": "own", "width": 3, "variant": ""}
        assert (whole.total, whole.optimizer.b1, whole.seed) == (100, 0.9, 0)
        assert set(whole) == set(default_config("quality"))
    assert set(given) == {"model", "dataset", "total"}  # a copy


@pytest.mark.parametrize(
    ("given", "code", "key", "name"),
    [
        ({"batchsize": 8}, "unknown", "config.batchsize", '"batch_size"'),
        ({"optimizer": {"lerning_rate": 1.0}}, "unknown", "config.optimizer.lerning_rate", '"optimizer.learning_rate"'),
        ({"learning_rate": 1.0}, "unknown", "config.learning_rate", '"optimizer.learning_rate"'),
        ({"pictures": "mine", "label_mode": "type", "loss": "l1"}, "unknown", "config.loss", "jaxiqa pretrain"),
        ({"optimizer": "adam"}, "value", "config.optimizer", "optimizer.name"),
    ],
)
def test_unknown_keys(given, code, key, name):
    with refused(ConfigError, code, key, "mine.py", name):
        complete(given, where="mine.py")


def test_a_config_of_jaxiqa_0_1_0():
    old, now = load(str(OLD)), load("cnniqa_live")
    assert old == now
    assert (old.flip_horizontal, old.flip_vertical, old.crop) == (True, True, "random")  # as in 0.1.0
    assert load(f"{OLD}:smoke").total == "4 steps"


def test_experiments_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("glintiqa_sample:smoke") == load(f"{ROOT}/configs/glintiqa_sample.py:smoke")
    (tmp_path / "glintiqa_sample.py").write_text("def get_config():\n    return dict(seed=7)\n")
    assert load("glintiqa_sample.py").seed == 7 and load("glintiqa_sample").seed == 0
    with refused(ConfigError, "unknown", "--config", "glintiqa_sampel", '"glintiqa_sample"'):
        load("glintiqa_sampel:smoke")
    with refused(ConfigError, "not_found", "configs/mfen_folder.py", "--config mfen_folder"):
        load("configs/mfen_folder.py")
    assert "__init__" not in shipped()


@pytest.mark.parametrize(
    ("words", "section", "expected"),
    [
        (["--config.dataset.label_column=MOS"], "dataset", {"name": "folder", "data_dir": "", "label_column": "MOS"}),
        (
            ["--config.dataset.score_range=(0, 100)", "--noconfig.dataset.higher_is_better"],
            "dataset",
            {"name": "folder", "data_dir": "", "score_range": (0, 100), "higher_is_better": False},
        ),
        (
            ["--config.dataset.name=pyiqa", "--config.dataset.score_range=(1, 9)", "--config.dataset.csv", "x.csv"],
            "dataset",
            {"name": "pyiqa", "data_dir": "", "score_range": (1, 9), "csv": "x.csv"},
        ),
        (["--config.init.vgfe=converted"], "init", {"model": "", "vgfe": "converted"}),
        (["--config.seed=3"], "dataset", {"name": "folder", "data_dir": ""}),
    ],
)
def test_options_that_the_file_does_not_state(tmp_path, monkeypatch, words, section, expected):
    assert override(tmp_path, monkeypatch, words)[section].to_dict() == expected


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--config.dataset.lable_column=MOS"], AttributeError),
        (["--config.dataset.name=koniq", "--config.dataset.label_column=MOS"], AttributeError),
        (["--config.dataset.name=konik", "--config.dataset.images=x"], ConfigError),
    ],
)
def test_options_that_the_dataset_does_not_have(tmp_path, monkeypatch, words, error):
    with pytest.raises(error):
        override(tmp_path, monkeypatch, words)


def override(tmp_path, monkeypatch, words) -> ConfigDict:
    """The config of a short file with these flags."""
    (tmp_path / "mine.py").write_text(
        'def get_config():\n    return dict(model=dict(name="cnniqa"), dataset=dict(name="folder"))\n'
    )
    monkeypatch.setattr(sys, "argv", ["train", f"--config={tmp_path}/mine.py", *words])
    values = flags.FlagValues()
    shared_flags.config(values)
    values(sys.argv)
    return values["config"].value


FILES = {
    "partial": "from ml_collections import ConfigDict\n"
    "def get_config():\n    return ConfigDict(dict(model=dict(name='glintiqa'), dataset=dict(name='sample')))\n",
    "plain": "def get_config(arg='sample'):\n    return dict(model=dict(name='glintiqa'), dataset=dict(name=arg))\n",
    "encoder": "def get_config():\n    return dict(model=dict(name='resnet50'))\n",
    "typo": "def get_config():\n    return dict(model=dict(name='glintiqa'), batchsize=3)\n",
    "nothing": "def get_config():\n    pass\n",
    "other": "def config():\n    pass\n",
}


def test_defaults_are_there_before_overrides(tmp_path):
    """The workdir is impossible, so command lines that are right end there."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    good = "README.md/w"
    cases = [
        ("train", "partial.py", "--config.optimizer.learning_rate=0.5", good),
        ("train", "partial.py", "--config.flip_vertical=False", good),
        ("train", "partial.py", "--noconfig.flip_vertical", good),
        ("train", "partial.py", "--config.optimiser.b1=0.5", "--config.optimiser.b1: ", '"optimizer.b1"'),
        ("train", "plain.py:sample", "--config.split.round=2", good),
        ("train", "plain.py", "--config.crop=centre", good),
        ("train", "glintiqa_sample:smoke", "--config.seed=1", good),
        ("train", "glintiqa_sample:smoke", "--config.temperature=1", "--config.temperature: "),
        ("train", "glintiqa_smaple:smoke", "--config.seed=1", "glintiqa_smaple", '"glintiqa_sample"'),
        ("train", "typo.py", "--config.seed=1", "typo.py", "batchsize", '"batch_size"'),
        ("train", "nothing.py", "--config.seed=1", "nothing.py", "ConfigDict"),
        ("train", "other.py", "--config.seed=1", "other.py", "get_config()"),
        ("train", "dan_folder", "--config.loss=l1", "jaxiqa pretrain"),
        ("pretrain", "encoder.py", "--config.pictures=/no", good),
        ("pretrain", "encoder.py", "--config.los=1", "--config.los: "),
        ("pretrain", "partial.py", "--config.seed=1", "jaxiqa train"),
        ("train", str(OLD), "--config.flip_horizontal=False", good),
    ]
    for program in ("train", "pretrain"):
        lines = []
        for _, name, override, *names in (case for case in cases if case[0] == program):
            path = tmp_path / name if ".py" in name and name != str(OLD) else name
            lines.append(([f"--config={path}", override, "--workdir=README.md/w"], 2, *names))
        check_refusals(program, lines)


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("batch_size", ["batch_size"]),
        ("batch-size", ["batch_size"]),
        ("bs", ["batch_size"]),
        ("lr", ["optimizer.learning_rate"]),
        ("learning_rate", ["optimizer.learning_rate"]),
        ("wd", ["optimizer.weight_decay"]),
        ("epochs", ["total"]),
        ("num_epochs", ["total"]),
        ("max-steps", ["total"]),
        ("warmup_epochs", ["schedule.warmup"]),
        ("model", ["model.name"]),
        ("dataset", ["dataset.name"]),
        ("data_root", ["dataset.data_dir"]),
        ("val_every", ["eval_every"]),
        ("round", ["split.round"]),
        ("name", ["model.name", "dataset.name", "optimizer.name", "schedule.name"]),
        ("gpus", []),
        ("d", []),
    ],
)
def test_flags_of_other_programs_have_keys(word, keys):
    assert keys_like(word, ["quality"]) == keys


def test_keys_are_those_of_the_task():
    assert keys_like("temperature", ["contrastive"]) == keys_like("temperature") == ["temperature"]
    assert keys_like("temperature", ["quality"]) == []
