"""Who may import whom: the house's rule, read from the sources."""

import ast
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "jaxiqa"
ROOMS = sorted(p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py")))
COMMON = {
    *("jaxiqa.config", "jaxiqa.errors", "jaxiqa.files", "jaxiqa.inert_pickle", "jaxiqa.plugins", "jaxiqa.version"),
}
LIBRARY = ("models", "distortions", "datasets", "inputs", "training", "runs", "weights", "scoring", "evaluation")

# room -> (rooms of ours, third-party packages; None: any)
ALLOWED = {
    "models": ((), {"flax", "jax", "numpy"}),
    "distortions": ((), {"flax", "jax", "numpy", "PIL"}),
    "evaluation": ((), None),
    "training": ((), None),  # and checkpoint.py, the place of 0.1.0, which hands on to runs
    "figures": (("evaluation",), None),
    "datasets": ((), {"numpy", "tensorflow_datasets", "PIL", "scipy", "skimage", "etils"}),
    "inputs": (("datasets", "distortions", "training.sharding"), None),
    "weights": (("models",), None),
    "runs": (("training", "models.ready"), None),
    "aot": (("models", "training"), None),  # and its __main__.py, a program
    "scoring": (
        (
            *("models", "inputs", "datasets", "weights", "evaluation", "figures", "training"),
            *("runs.checkpoint", "runs.checkpoint_meta", "runs.hub"),
        ),
        None,
    ),
    "exporting": (("models", "inputs", "datasets", "scoring"), None),
    "saqt": (("datasets", "inputs", "models", "scoring", "runs", "training", "weights", "figures"), None),
    "competition": (("scoring", "evaluation", "figures", "datasets", "inputs"), None),
    "serving": (("scoring", "inputs", "runs.signals"), None),
    "tasks": ((*LIBRARY, "figures", "saqt"), None),
    "benchmarks": (
        (*LIBRARY, "figures", "saqt", "tasks", "exporting", "cli"),
        None,
    ),  # the table of programs, to start them
}


def imports(path: pathlib.Path) -> set[str]:
    """Full names of what a file imports of the package, module by module, and of other packages.

    `from jaxiqa.room import name` counts as the module of this name, if there is one, else as the module that the name
    comes from: names that the package itself gives out come from their rooms.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {_module_of(node.module, alias.name) for alias in node.names}
    return found


def _module_of(module: str, name: str) -> str:
    if not module.startswith("jaxiqa"):
        return module
    if _file_of(f"{module}.{name}"):
        return f"{module}.{name}"
    given_out = _file_of(module)
    if module == "jaxiqa":
        for node in ast.walk(ast.parse(given_out.read_text())):  # its imports are for type checkers
            if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
                return _module_of(node.module, name)
    return module


def _file_of(module: str) -> pathlib.Path | None:
    path = PACKAGE.parent / module.replace(".", "/")
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.exists()), None)


def refused(room: str, name: str) -> bool:
    """Whether a file of a room may not import the module `name`."""
    ours, third_party = ALLOWED[room]
    if name in COMMON:
        return False
    if name.split(".")[0] == "jaxiqa":
        inner = name.removeprefix("jaxiqa").removeprefix(".")
        return not any(inner == a or inner.startswith(a + ".") for a in (room, *ours))
    outer = name.split(".")[0]
    return third_party is not None and outer not in sys.stdlib_module_names and outer not in third_party


def is_program(path: pathlib.Path) -> bool:
    return "program.run(" in path.read_text() and path.name != "program.py"


@pytest.mark.parametrize("room", ROOMS)
def test_room(room):
    for path in (PACKAGE / room).rglob("*.py"):
        if not is_program(path) and path != PACKAGE / "training" / "checkpoint.py":
            wrong = sorted(name for name in imports(path) if refused(room, name))
            assert not wrong, f"{path.name} imports {', '.join(wrong)}, which {room}/ may not"


def test_names_that_the_package_gives_out_count_as_their_room(tmp_path):
    file = tmp_path / "sly.py"
    file.write_text("from jaxiqa import create_metric\nfrom jaxiqa import __version__\nimport jaxiqa\n")
    found = imports(file)
    assert found == {"jaxiqa.scoring.metric", "jaxiqa.version", "jaxiqa"}
    assert {name for name in found if refused("models", name)} == {"jaxiqa.scoring.metric", "jaxiqa"}


PROGRAMS = {
    ".".join(("jaxiqa", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__main__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
    if is_program(p)
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_do_not_import_programs(name):
    others = {p for p in PROGRAMS if p != name} | {f"{p}.__main__" for p in PROGRAMS}
    assert not imports(PROGRAMS[name]) & others


def test_configs_import_the_table_of_keys_only():
    for path in (PACKAGE.parent / "configs").glob("*.py"):
        assert imports(path) <= {"ml_collections", "jaxiqa.config", "jaxiqa.errors"}, path.name
    ours = {name for name in imports(PACKAGE / "config.py") if name.startswith("jaxiqa")}
    assert ours == {"jaxiqa.errors"}


def test_no_banned_imports():
    for path in PACKAGE.rglob("*.py"):
        found = imports(path)
        roots = {name.split(".")[0] for name in found}
        assert not roots & {"tensorflow", "torch", "clu"}, path
        assert "pickle" not in roots or path.name == "inert_pickle.py", path
        assert "orbax" not in roots or path == PACKAGE / "runs" / "checkpoint.py", path
        assert not any(name.startswith("jax._src") for name in found), path


def test_depth():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.relative_to(PACKAGE).parts) <= 3, path
        assert path.name != "utils.py", path
