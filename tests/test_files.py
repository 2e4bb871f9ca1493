"""Files that are written completely or not at all."""

import errno
import json
import math
import os

import jax
import numpy as np
import pytest
from refused import refused

from jaxiqa.errors import ConfigError, DiskFull
from jaxiqa.files import cache_dir, expanded, json_text, writing
from jaxiqa.runs import compile_cache


def test_a_file_appears_when_it_is_complete(tmp_path):
    with writing(tmp_path / "a.csv", "w", encoding="utf-8") as file:
        file.write("é")
        assert os.listdir(tmp_path) == [f"a.csv.{os.getpid()}.tmp"]
    assert os.listdir(tmp_path) == ["a.csv"] and (tmp_path / "a.csv").read_text("utf-8") == "é"


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failed_write_keeps_the_old_file(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    full = isinstance(error, OSError)
    with (
        refused(DiskFull, "disk_full") if full else pytest.raises(ValueError, match="no"),
        writing(tmp_path / "a") as file,
    ):
        file.write(b"new")
        raise error
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_json_has_no_nan():
    values = {"a": float("nan"), "b": [np.float32("inf"), np.arange(2)], "c": {"d": -math.inf}, "e": np.int64(3)}
    found = json.loads(json_text(values), parse_constant=lambda text: pytest.fail(text))
    assert found == {"a": None, "b": [None, [0, 1]], "c": {"d": None}, "e": 3}


def test_a_user_without_a_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("JAXIQA_CACHE", raising=False)
    assert (
        cache_dir() == "/home/me/.cache/jaxiqa" and expanded("~/a/~") == "/home/me/a/~" and expanded("~") == "/home/me"
    )
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as if the password file did not know the user
    for use in (cache_dir, lambda: expanded("~/a"), lambda: expanded("~")):
        with refused(ConfigError, "missing", "HOME", "JAXIQA_CACHE"):
            use()
    monkeypatch.setenv("JAXIQA_CACHE", "/cache")
    assert cache_dir() == "/cache" and expanded("a/~/b") == "a/~/b"


def test_the_compile_cache_is_left_out_without_a_home_folder(monkeypatch, capsys):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("JAXIQA_CACHE", raising=False)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        compile_cache.enable()
        assert jax.config.jax_compilation_cache_dir is None and capsys.readouterr().out.startswith("warning: ")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not os.path.exists("~")
