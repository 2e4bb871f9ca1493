"""A workdir in a bucket."""

import importlib.util

import fsspec
import pytest
from etils import epath
from fake_bucket import Bucket
from orbax.checkpoint._src.path import gcs_utils


@pytest.fixture
def store(tmp_path, monkeypatch) -> Bucket:
    """The file system of the bucket gs://runs, a folder. TensorStore writes its arrays there too, without fsspec."""
    store, find_spec = Bucket(tmp_path / "buckets"), importlib.util.find_spec
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **_: store)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: name == "gcsfs" or find_spec(name, *a))
    monkeypatch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)  # it would ask Google
    monkeypatch.setattr(gcs_utils, "get_kvstore_for_gcs", lambda p: {"driver": "file", "path": store.on_disk(p)})
    epath.backend.fsspec_backend._get_filesystem.cache_clear()
    yield store
    epath.backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def bucket(store) -> epath.Path:
    return epath.Path("gs://runs/mine")
