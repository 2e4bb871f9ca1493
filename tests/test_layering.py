"""Who may import whom: the house's rule, read from the sources."""

import ast
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "jaxiqa"
ROOMS = sorted(p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py")))
COMMON = {"jaxiqa", "jaxiqa.errors"}  # the package itself (its version), and errors with exit codes

# room -> (rooms of ours, third-party packages; None: any)
ALLOWED = {
    "models": ((), {"flax", "jax", "numpy"}),
    "distortions": ((), {"flax", "jax", "numpy", "PIL"}),
    "datasets": ((), {"numpy", "tensorflow_datasets", "PIL", "scipy", "skimage", "etils"}),
    "inputs": (("datasets", "distortions", "training.sharding"), None),
    "weights": (("models",), None),
    "training": ((), None),
    "evaluation": ((), None),
    "retrieval": (
        ("models", "inputs", "weights", "datasets", "evaluation", "training"),
        None,
    ),
    "scoring": (("models", "inputs", "weights", "training", "datasets.records", "evaluation"), None),
    "benchmarks": (tuple(ROOMS), None),
}


def imports(path: pathlib.Path) -> set[str]:
    """Full names of the modules that a file imports; `from package import module` counts as the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            is_module = [(PACKAGE.parent / (name.replace(".", "/") + ".py")).exists() for name in inside]
            is_room = [(PACKAGE.parent / name.replace(".", "/")).is_dir() for name in inside]
            found |= {n if m or r else node.module for n, m, r in zip(inside, is_module, is_room, strict=True)}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_room(room):
    ours, third_party = ALLOWED[room]
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imports(path) - COMMON:
            if name.startswith("jaxiqa."):
                inner = name.removeprefix("jaxiqa.")
                allowed = any(inner == a or inner.startswith(a + ".") for a in (room, *ours))
                assert allowed, f"{path.name} imports {name}, which {room}/ may not"
            elif third_party is not None and name.split(".")[0] not in sys.stdlib_module_names:
                assert name.split(".")[0] in third_party, f"{path.name} imports {name}, which {room}/ may not"


PROGRAMS = sorted(p.stem for p in PACKAGE.glob("*.py") if "program.run(" in p.read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_do_not_import_programs(name):
    others = {f"jaxiqa.{p}" for p in PROGRAMS if p != name}
    assert not imports(PACKAGE / f"{name}.py") & others


def test_configs_import_ml_collections_only():
    for path in (PACKAGE.parent / "configs").glob("*.py"):
        assert imports(path) <= {"ml_collections"}, path.name


def test_no_banned_imports():
    for path in PACKAGE.rglob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"tensorflow", "torch", "clu", "pickle"}, path
        assert "orbax" not in roots or path.name == "checkpoint.py", path


def test_depth_and_size():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.relative_to(PACKAGE).parts) <= 2, path
        assert path.name != "utils.py", path
        assert len(path.read_text().splitlines()) <= 350, f"{path} is two ideas"
