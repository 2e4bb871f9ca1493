"""Whole datasets in their owners' layout, once with labels that are made up and once with the published ones."""

import functools

import made_rows
import owners_rows
import pytest
import reader_trees
from skips import DATA


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests with made labels repeat those with the published ones, so they always run only where these are missing."""
    if DATA.is_dir():
        for item in items:
            if hasattr(item, "callspec") and item.callspec.params.get("labels") == "made":
                item.add_marker("release")


@pytest.fixture(params=["made", "owners"])
def labels(request):
    """labels(name) is the list of rows of a dataset; with the published ones a test is skipped if they are not there.

    The mark owners_rows.owners_only leaves out those that are made up.
    """
    if request.param == "made":
        return made
    folder = request.getfixturevalue("shared") / "data/labels"
    return lambda name: getattr(owners_rows, name)(folder)


@functools.cache
def made(name):
    return getattr(made_rows, name)()


@pytest.fixture
def tree(labels, request, tmp_path_factory):
    """tree("kadid10k") is the folder of that dataset, written once; tests that change it use a copy or put it back."""
    home = tmp_path_factory.getbasetemp() / request.node.callspec.params["labels"]

    def get(name):
        root = home / name
        if not root.exists():
            root.mkdir(parents=True)
            getattr(reader_trees, name)(root, labels(name))
        return root

    return get


@pytest.fixture
def livec_labels():
    """livec_labels(root, names, scores) writes Data/*.mat of LIVE Challenge."""
    return reader_trees.write_livec_labels


@pytest.fixture
def workbook():
    """workbook(path, {sheet: rows}, column="A", row=1) writes an .xlsx."""
    return reader_trees.write_workbook
