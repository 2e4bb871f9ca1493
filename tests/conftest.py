"""One session for all tests: four fake CPU devices, strict shapes, one compile cache, runs and test data to read."""

import ctypes
import gc
import os
import pathlib
import pickle
import resource
import signal
import sys

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
from filelock import FileLock

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
def once(tmp_path_factory):
    """once(name, make): what make(folder) returned for the new folder `name`, in the first process of tests that asks.

    Tests in all processes of the session have the folder, so they only read it.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name, make):
        folder, result = base / name, base / f"{name}.pickle"
        with FileLock(base / f"{name}.lock"):
            if not result.exists():
                folder.mkdir()
                result.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(result.read_bytes())

    return once


@pytest.fixture(scope="session")
def pictures(once) -> pathlib.Path:
    """15 noise pictures of 5 contents with an index.csv; the score says how strong the noise is."""
    from tiny_run import write_pictures

    return once("rated", write_pictures)


@pytest.fixture(scope="session")
def trained(pictures, once):
    """Workdir and test scores of an unbroken run of six steps on `pictures`."""
    from etils import epath
    from tiny_run import make_config

    from jaxiqa.train import train

    return once("trained", lambda folder: (epath.Path(folder), train(make_config(pictures), epath.Path(folder))))


@pytest.fixture(scope="session")
def pristine(once) -> pathlib.Path:
    """Twelve smooth pictures that nobody rated."""
    from tiny_run import write_pristine

    return once("pristine", write_pristine)


@pytest.fixture(scope="session")
def pretrained(pristine, once):
    """Workdir and the probe's accuracies of an unbroken pretraining run of four steps on `pristine`."""
    from etils import epath
    from tiny_run import make_pretraining_config

    from jaxiqa.pretrain import pretrain

    def run(folder):
        return epath.Path(folder), pretrain(make_pretraining_config(pristine), epath.Path(folder))

    return once("pretrained", run)


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


_LIMIT = 1 << 30  # bytes after a module, half as much again after a test


def _resident() -> int:
    """Bytes of this process that are in memory; 0 on systems that do not say."""
    pages = pathlib.Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * resource.getpagesize() if pages.exists() else 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """What was compiled stays in memory, and the C library keeps what is freed, unless they are told otherwise."""
    inside = nextitem is not None and nextitem.path == item.path
    if _resident() > _LIMIT * (1.5 if inside else 1):
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _largest() -> str:
    """Kilobytes on Linux, bytes on macOS."""
    unit = 1 << 30 if sys.platform == "darwin" else 1 << 20
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.2f} GiB"


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # a process of xdist
        session.config.workeroutput["largest"] = _largest()


_workers: dict[str, str] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    _workers[node.gateway.id] = getattr(node, "workeroutput", {}).get("largest", "?")


def pytest_terminal_summary(terminalreporter):
    for name, largest in sorted(_workers.items()) or [("main", _largest())]:
        terminalreporter.write_line(f"largest resident memory of {name}: {largest}")
