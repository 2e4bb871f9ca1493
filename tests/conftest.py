"""One session for all tests: four fake CPU devices, strict shapes, one compile cache, the shared test data."""

import os
import pathlib
import signal

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".pytest_cache" / "xla"
CACHE.mkdir(parents=True, exist_ok=True)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)  # programs that tests start use it too
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # hundreds of them compile the same trifles

signal.signal(signal.SIGINT, signal.default_int_handler)  # a session in the background ignores it, and its children

import jax
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain reads flags


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real pictures, labels and goldens; the test is skipped where there is none."""
    folder = pathlib.Path(os.environ.get("JAXIQA_TEST_DATA", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set JAXIQA_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> pathlib.Path:
    """15 noise pictures of 5 contents with an index.csv; the score says how strong the noise is."""
    from tiny_run import write_pictures

    return write_pictures(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="session")
def trained(pictures, tmp_path_factory):
    """Workdir and test scores of an unbroken run of six steps on `pictures`."""
    from etils import epath
    from tiny_run import make_config

    from jaxiqa.train import train

    workdir = epath.Path(tmp_path_factory.mktemp("unbroken"))
    return workdir, train(make_config(pictures), workdir)


@pytest.fixture(scope="session")
def goldens(shared):
    """Outputs of the public implementations, and the module that makes their weights."""
    import importlib.util
    import json
    import types

    spec = importlib.util.spec_from_file_location("seeded", shared / "goldens" / "seeded.py")
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    read = lambda name: json.loads((shared / "goldens" / name).read_text())  # noqa: E731
    return types.SimpleNamespace(models=read("models.json"), training=read("training.json"), seeded=seeded)
