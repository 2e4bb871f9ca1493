"""Set-up of all tests: four fake CPU devices, strict shapes, one compile cache, shared runs and test data."""

import contextlib
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
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)  # also for programs that tests start
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # hundreds of tests compile the same small functions
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"  # their folder would become part of every key

signal.signal(signal.SIGINT, signal.default_int_handler)  # a session in the background ignores it, as do its children

import jax
import pytest
import skips
from absl import flags
from filelock import FileLock

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain reads flags


def pytest_addoption(parser):
    parser.addoption("--renew-messages", action="store_true", help="Rewrite tests/messages.txt.")


def pytest_configure(config):
    config.pluginmanager.register(skips)


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real images, labels and goldens. A test is skipped if it does not exist."""
    if not skips.DATA.is_dir():
        pytest.skip(f"{skips.NO_DATA} {skips.DATA}; set JAXIQA_TEST_DATA")
    return skips.DATA


@contextlib.contextmanager
def _quick_compiler(quick: bool):
    """With quick=True, XLA skips most optimisations, here and in programs that tests start, to compile faster."""

    def set_to(value: bool) -> None:
        jax.config.update("jax_disable_most_optimizations", value)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(value))

    before = jax.config.values["jax_disable_most_optimizations"]
    set_to(quick)
    try:
        yield
    finally:
        set_to(before)


_AS_FOR_USERS = ("test_arniqa", "test_definitions", "test_goldens", "test_quantisers", "test_ready")


@pytest.fixture(scope="module", autouse=True)
def quick_compiler(request):
    """Compiles as for users where results are compared with stored values, and quickly elsewhere."""
    with _quick_compiler(request.path.stem not in _AS_FOR_USERS):
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the result of make(folder) for a new folder `name`, computed by the first process that asks.

    All processes of the session share the folder, so tests only read it.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name, make):
        folder, result = base / name, base / f"{name}.pickle"
        with FileLock(base / f"{name}.lock"):
            if not result.exists():
                folder.mkdir()
                with _quick_compiler(True):
                    result.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(result.read_bytes())

    return once


@pytest.fixture(scope="session")
def pictures(once) -> pathlib.Path:
    """15 noise images of 5 contents with an index.csv; the score falls with the noise."""
    from tiny_run import write_pictures

    return once("rated", write_pictures)


@pytest.fixture(scope="session")
def trained(pictures, once):
    """Workdir and test scores of an unbroken run of six steps of CNNIQA on `images`."""
    from etils import epath
    from tiny_run import trained_config

    from jaxiqa.train import train

    return once("trained", lambda folder: (epath.Path(folder), train(trained_config(pictures), epath.Path(folder))))


@pytest.fixture(scope="session")
def trained_glintiqa(pictures, once):
    """Workdir of such a run of GlintIQA."""
    from etils import epath
    from tiny_run import make_config

    from jaxiqa.train import train

    def run(folder):
        train(make_config(pictures), epath.Path(folder))
        return epath.Path(folder)

    return once("trained_glintiqa", run)


@pytest.fixture(scope="session")
def trained_cnniqa(pictures, once):
    """Workdir of such a run with the loss of CNNIQA's own config."""
    from etils import epath
    from tiny_run import CNNIQA, make_config

    from jaxiqa.train import train

    def run(folder):
        train(make_config(pictures, CNNIQA), epath.Path(folder))
        return epath.Path(folder)

    return once("trained_cnniqa", run)


@pytest.fixture
def ready_stand_in(once, monkeypatch) -> pathlib.Path:
    """Folder of a small checkpoint that "ready" names in this process, in place of the weights that ship."""
    from ready_stand_in import write_stand_in

    from jaxiqa.models import ready

    monkeypatch.setattr(ready, "FOLDER", once("ready", write_stand_in))
    return ready.FOLDER


@pytest.fixture(scope="session")
def pristine(once) -> pathlib.Path:
    """Twelve smooth images without ratings."""
    from tiny_run import write_pristine

    return once("pristine", write_pristine)


@pytest.fixture(scope="session")
def pretrained(pristine, once):
    """Workdir and probe accuracies of an unbroken pretraining run of four steps on `pristine`."""
    from etils import epath
    from tiny_run import make_pretraining_config

    from jaxiqa.pretrain import pretrain

    def run(folder):
        return epath.Path(folder), pretrain(make_pretraining_config(pristine), epath.Path(folder))

    return once("pretrained", run)


@pytest.fixture(scope="session")
def goldens(shared):
    """Outputs of the public implementations, and the module that creates their weights."""
    import importlib.util
    import json
    import types

    spec = importlib.util.spec_from_file_location("seeded", shared / "goldens" / "seeded.py")
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    read = lambda name: json.loads((shared / "goldens" / name).read_text())  # noqa: E731
    return types.SimpleNamespace(models=read("models.json"), training=read("training.json"), seeded=seeded)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Each test process begins with modules that have slow tests, and ends with short ones.

    With `pytest --dist worksteal` each process receives one part of the list, and later takes tests from the end of the
    parts of others.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    short = [item for item in items if item.path not in slow]
    count, ordered = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)), []
    for i in range(count):
        mine = sorted(slow)[i::count]
        ordered += [item for item in items if item.path in mine]
        room = max(0, len(items) * (i + 1) // count - len(ordered))
        ordered += short[:room]
        del short[:room]
    items[:] = ordered + short


_LIMIT = 1 << 30  # bytes after a module; 1.5 times as much after a test


def _resident() -> int:
    """Resident memory of this process in bytes; 0 on systems without /proc."""
    pages = pathlib.Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * resource.getpagesize() if pages.exists() else 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Frees compiled functions, which otherwise stay in memory; malloc_trim returns freed memory to the system."""
    inside = nextitem is not None and nextitem.path == item.path
    if _resident() > _LIMIT * (1.5 if inside else 1):
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


def _largest() -> str:
    """The largest resident memory of this process. ru_maxrss is in kilobytes on Linux, in bytes on macOS."""
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
