"""Faults around a run: its cache, its memory, its files, its config (R10; F14, F16, F20, F26, F27, F28)."""

import json
import pathlib
import shutil

import jax
import numpy as np
import programs
import pytest
from etils import epath
from ml_collections import ConfigDict
from refused import refused
from tiny_run import ROOT, options, run_many, trained_config

from jaxiqa.datasets.records import Record
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import train_batches
from jaxiqa.runs import compile_cache
from jaxiqa.runs.workdir import save_config
from jaxiqa.train import train

CONFIG = {"model": {"variant": "test"}, "ema": 0.99, "log_every": "1 steps"}
CONFIG["optimizer"] = {"name": "adam", "learning_rate": 0.1}
TYPOS = {
    "optimizer.lerning_rate=1": "optimizer.learning_rate",
    "lerning_rate=1": "optimizer.learning_rate",
    "batchsize=8": "batch_size",
    "batch_sise=8": "batch_size",
    "totl=3": "total",
    "optimiser.name=adam": "optimizer.name",
    "optimizer.wieght_decay=0": "optimizer.weight_decay",
    "optimizer.grad_clip=1": "optimizer.grad_clip_norm",
    "schedule.warm_up=0": "schedule.warmup",
    "schedul.name=cosine": "schedule.name",
    "model.varient=test": "model.variant",
    "modle.name=mfen": "model.name",
    "dataset.data_dri=x": "dataset.data_dir",
    "dataset.label_colum=x": "dataset.label_column",
    "split.roud=2": "split.round",
    "test_crop=grid": "test_crops",
    "log_evry=1": "log_every",
    "eval_evry=1": "eval_every",
    "save_evey=1": "save_every",
    "sed=1": "seed",
}


def changed(**keys) -> ConfigDict:
    config = ConfigDict(json.loads(json.dumps(CONFIG)))
    config.update_from_flattened_dict(keys)
    return config


def test_what_a_resumed_run_may_change(tmp_path, capsys):
    workdir = epath.Path(tmp_path)
    save_config(changed(), "data", workdir, None)
    save_config(changed(log_every="9 steps"), "data", workdir, 4)
    with refused(ConfigError, "changed", workdir, "optimizer.learning_rate", "0.1", "0.2", "--override"):
        save_config(changed(**{"optimizer.learning_rate": 0.2}), "data", workdir, 4)
    fixed = {"model.variant": "other"}, {"optimizer.name": "sgd"}, {"ema": 0.0}
    for keys, data in (*((keys, "data") for keys in fixed), ({}, "other data")):
        for override in (False, True):
            with refused(ConfigError, "changed", workdir, *keys) as error:
                save_config(changed(log_every="9 steps", **keys), data, workdir, 4, override)
            assert "--override" not in str(error.value)
    other = {"log_every": "9 steps", "optimizer.learning_rate": 0.2, "ema": 0.9}
    save_config(changed(**other), "data", workdir, 6, override=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["optimizer"]["learning_rate"] == 0.2
    assert saved["changes"] == [
        {"step": 4, "changed": {"log_every": ["1 steps", "9 steps"]}},
        {"step": 6, "changed": {"ema": [0.99, 0.9], "optimizer.learning_rate": [0.1, 0.2]}},
    ]
    assert "step 6: ema 0.99 -> 0.9; optimizer.learning_rate 0.1 -> 0.2" in capsys.readouterr().out
    save_config(changed(**other), "data", workdir, 8)
    assert json.loads((tmp_path / "config.json").read_text()) == saved


@pytest.mark.slow
def test_a_dataset_that_changes_in_a_run(trained, pictures, tmp_path):
    """An image replaced under its name, or another label: refused once the run has begun."""
    data, workdir = (
        shutil.copytree(pictures, tmp_path / "data"),
        epath.Path(shutil.copytree(trained[0], tmp_path / "w")),
    )
    about = workdir / "config.json"  # the run that is copied was on the copied images
    about.write_text(about.read_text().replace(str(pictures), str(data)))
    config = trained_config(data)
    for name in ("1.png", "index.csv"):
        content = (data / name).read_bytes()
        (data / name).write_bytes(content.replace(b"4.5", b"4.25", 1) if name == "index.csv" else content + b"\0")
        with refused(ConfigError, "changed", None, str(workdir / "split.json")):
            train(config, workdir)
        (data / name).write_bytes(content)
    (workdir / "split.json").write_text("{")  # killed as it was written
    assert train(config, workdir) == pytest.approx(trained[1], nan_ok=True)


@pytest.mark.slow
def test_typos_and_wrong_values_are_told_before_anything_is_compiled(pictures, tmp_path):
    good = [f"--config.{key}={value}" for key, value in options(pictures).items()]
    start = [f"--config={ROOT / 'configs' / 'glintiqa_folder.py'}", f"--workdir={tmp_path / 'w'}", *good]
    wrong = {
        "batch_size=0": "batch_size=0",
        "optimizer.learning_rate=abc": "learning_rate",
        "log_every=0 moons": "moons",
    }
    some = dict(list(TYPOS.items())[:2])  # tests.faults tries all
    results = run_many("train", [[*start, f"--config.{typo}"] for typo in (*some, *wrong)])
    for (typo, key), (code, _, error) in zip((some | wrong).items(), results, strict=True):
        assert code == 2 and "Traceback" not in error, (typo, error)
        assert key in error and (typo in wrong or f'did you mean "{key}"' in error), error
    assert not (tmp_path / "w" / "checkpoints").exists()


@pytest.fixture
def cache_setting():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_compile_cache_that_others_can_write(tmp_path, monkeypatch, capsys, cache_setting):
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAXIQA_CACHE", str(tmp_path))
    compile_cache.enable()
    folder = tmp_path / "xla"
    assert jax.config.jax_compilation_cache_dir == str(folder) and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    for named in (None, str(folder)):  # by default, and by JAX_COMPILATION_CACHE_DIR
        jax.config.update("jax_compilation_cache_dir", named)
        compile_cache.enable()
        assert jax.config.jax_compilation_cache_dir is None
        line = capsys.readouterr().out
        assert line.startswith("warning") and str(folder) in line and "JAXIQA_CACHE" in line


OUT_OF_MEMORY = """
import jax, sys
from jaxiqa import program
def main():
    page = "buffer\\n" * 200
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.50GiB.\\n" + page)
program.run(main)
"""


def test_too_little_memory_is_one_line(tmp_path):
    (tmp_path / "full.py").write_text(OUT_OF_MEMORY)
    done = programs.run(tmp_path / "full.py")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "1.50GiB" in line and "batch_size" in line and "accumulate" in line


LOST_PICTURE = """
from jaxiqa import program
from jaxiqa.datasets.records import Record
from jaxiqa.inputs.image_source import Images
from jaxiqa.inputs.pipeline import train_batches
def main():
    images = Images([Record("lost.png", 1.0, "lost.png")] * 4, 64)
    next(train_batches(images, [0.0] * 4, crop=64, batch_size=4, seed=0, start=0))
program.run(main)
"""


def test_a_picture_that_is_lost_in_training_is_one_line(tmp_path):
    """Grain adds lines of its own to what a transformation raises."""
    (tmp_path / "lost.py").write_text(LOST_PICTURE)
    done = programs.run(tmp_path / "lost.py")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "lost.png" in line and "path" in line


@pytest.mark.parametrize("fault", ["removed", "cut"])
def test_a_picture_that_cannot_be_read_is_named(pictures, tmp_path, fault):
    paths = [tmp_path / p.name for p in sorted(pathlib.Path(pictures).glob("*.png"))[:8]]
    for path in paths:
        path.write_bytes((pictures / path.name).read_bytes())
    source = Images([Record(str(p), 1.0, p.name) for p in paths], 64)
    if fault == "removed":
        paths[3].unlink()
    else:
        paths[3].write_bytes(paths[3].read_bytes()[:200])
    batches = train_batches(source, np.ones(8), crop=64, batch_size=4, seed=0)
    with pytest.raises(DataError, match=paths[3].name):
        for _ in range(2):
            next(batches)
    batches.close()
