"""The plugin that counts skipped tests."""

import os
import pathlib
import subprocess
import sys

import pytest
import skips

TESTS = """
import pytest

@pytest.mark.parametrize("i", range(3))
def test_data(i):
    pytest.skip("no test data at /nowhere; set JAXIQA_TEST_DATA")

@pytest.mark.parametrize("i", range(2))
def test_tool(i):
    pytest.skip("no tool")

@pytest.mark.xfail
def test_expected():
    assert False

def test_good():
    pass
"""


def run(folder, text, allowed, *options):
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").touch()  # instead of that of the repository
    environment = os.environ | {"JAXIQA_MAX_SKIPS": allowed, "PYTHONPATH": str(pathlib.Path(skips.__file__).parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "skips", *options, str(folder)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("allowed", "status", "options"),
    [
        ("", 0, []),
        ("2", 0, []),
        ("1", 1, []),
        pytest.param("2", 0, ["-n2"], marks=pytest.mark.slow),
        pytest.param("1", 1, ["-n2"], marks=pytest.mark.slow),
    ],
)
def test_more_skipped_tests_than_allowed_fail(tmp_path, allowed, status, options):
    done = run(tmp_path, TESTS, allowed, *options)
    assert done.returncode == status, done.stdout
    assert "skipped: 3 without test data, 2 for other reasons" in done.stdout
    assert ("JAXIQA_MAX_SKIPS allows" in done.stdout) == bool(status)


def test_another_status_stays(tmp_path):
    text = (
        "import pytest\n\ndef test_tool():\n    pytest.skip('no tool')\n\ndef test_stop():\n    pytest.exit('stop', 9)"
    )
    assert run(tmp_path, text, "0").returncode == 9
