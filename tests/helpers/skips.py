"""A plugin of pytest that counts skipped tests and fails a session with more than are allowed.

Tests that need the folder of test data are counted separately, because nobody outside has it. Of the others at most
JAXIQA_MAX_SKIPS may be skipped, which .github/workflows/ci.yml and .ci/run set. Without it any number may be skipped.
"""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = pathlib.Path(os.environ.get("JAXIQA_TEST_DATA", ROOT.parent / "shared"))  # real images, labels and goldens

NO_DATA = "no test data at"  # the reason of a test without the folder begins with this


def _others(config) -> tuple[int, list[str]]:
    """The number of tests that need the folder, and the reasons of other skipped tests, over all processes."""
    skipped = config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", [])
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped]
    others = [reason for reason in reasons if not reason.startswith(NO_DATA)]
    return len(reasons) - len(others), others


def _allowed() -> int | None:
    return int(os.environ["JAXIQA_MAX_SKIPS"]) if os.environ.get("JAXIQA_MAX_SKIPS") else None


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):  # a worker of xdist; the main process counts its tests
        return
    allowed = _allowed()
    if allowed is not None and len(_others(session.config)[1]) > allowed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    without_data, others = _others(terminalreporter.config)
    terminalreporter.write_line(f"skipped: {without_data} without test data, {len(others)} for other reasons")
    allowed = _allowed()
    if allowed is not None and len(others) > allowed:
        terminalreporter.write_line(
            f"FAILED: {len(others)} tests were skipped for other reasons than missing test data; JAXIQA_MAX_SKIPS "
            f"allows {allowed}. Install what they need, or raise that number",
            red=True,
        )
