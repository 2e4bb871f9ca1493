"""Row numbers in pickle files, as pyiqa and LoDa split: read without running anything, and all else refused."""

import os
import pickle

import numpy as np
import pytest
from refused import refused
from some_pictures import assert_round_trip, pictures

from jaxiqa.datasets import load
from jaxiqa.datasets.splits import make_split
from jaxiqa.errors import ConfigError, DataError


def halves(n, seed):
    """Row numbers of a random 80/20 split as pyiqa has it: two parts, the second under val."""
    order = [int(i) for i in np.random.default_rng(seed).permutation(n)]
    return {"train": order[: round(0.8 * n)], "val": order[round(0.8 * n) :], "test": []}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_row_numbers(tmp_path, protocol, tree):
    d = load("livec", tree("livec"))  # its row numbers do not count the seven practice images
    rounds = {r: halves(1162, r) for r in range(1, 11)}
    del rounds[2]["test"]
    (tmp_path / "livec_seed123.pkl").write_bytes(pickle.dumps(rounds, protocol))
    for r in (1, 2, 10):
        s = make_split(d, r, "legacy", file=tmp_path / "livec_seed123.pkl")
        assert (s.train, s.test, s.val) == (sorted(rounds[r]["train"]), *[sorted(rounds[r]["val"])] * 2)
        assert (s.name, s.round, s.seed) == ("split file livec_seed123.pkl", r, None)
    assert_round_trip(tmp_path, d, s)
    with refused(ConfigError, "not_found", tmp_path / "livec_seed123.pkl", "round 11", "1, 2, 3"):
        make_split(d, 11, file=tmp_path / "livec_seed123.pkl")


@pytest.mark.parametrize("type_", [np.int64, np.int32, np.uint16, np.int8])
def test_pickled_numpy_integers(tmp_path, type_):
    rounds = {1: {"train": [type_(i) for i in (0, 3, 2)], "val": [type_(1)], "test": [type_(4)]}}
    for protocol in (3, 4, 5):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(rounds, protocol))
        s = make_split(pictures(5), file=tmp_path / "x.pkl")
        assert (s.train, s.val, s.test) == ([0, 2, 3], [1], [4])


def test_pickled_row_numbers_of_datasets_that_are_kept_in_another_order(tmp_path, tree):
    d = load("csiq", tree("csiq"))
    rounds = {1: {"train": list(range(100, 866)), "val": list(range(100)), "test": []}}
    (tmp_path / "csiq_seed123.pkl").write_bytes(pickle.dumps(rounds))
    s = make_split(d, selection="legacy", file=tmp_path / "csiq_seed123.pkl")
    assert {d.records[i].id for i in s.test} == set(d.listed[:100])
    assert s.name == "split file csiq_seed123.pkl (20 references in several parts)"
    assert_round_trip(tmp_path, d, s)


class Gadget:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (pickle.dumps(Gadget(os.system, ("touch canary",))), "unsafe", "posix.system"),
        (pickle.dumps({1: Gadget(eval, ("1",))}), "unsafe", "builtins.eval"),
        (pickle.dumps({1: np.arange(3)}), "unsafe", "numpy"),
        (pickle.dumps({1: {"train": [np.float64(1)]}}), "unsafe", "f8"),
        (pickle.dumps({1: {"train": [0.5]}}), "unsafe", "BINFLOAT"),
        (pickle.dumps({(1, 2): []}), "format", "does not have the form"),
        (pickle.dumps({1: {"train": [0]}}, 0), "unsafe", "opcode"),
        (pickle.dumps({1: {"train": [True], "val": [1]}}), "format", ""),
        (pickle.dumps({1: {"train": [0], "rest": [1]}}), "format", ""),
        (pickle.dumps([[0], [1]]), "format", ""),
        (pickle.dumps({1: {"train": 3}}), "format", ""),
        (b"\x80\x04]\x94h\x00a.", "format", ""),  # a list in itself
        (b"\x80\x04c__main__\nX\n)\x81.", "unsafe", "__main__.X"),
        (b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00i8tR.", "format", ""),
        (b"\x80\x02(K\x01ctorch\nload\nK\x02tR.", "unsafe", "torch.load"),
        (pickle.dumps({1: {"train": [0]}})[:-3], "format", ""),
        (b"\x80\x02Nr\x00\x00\x00\x80.", "unsafe", "2147483648 places in a memo"),
        (b"\x80\x02" + b"]" * 600 + b"a" * 599 + b".", "unsafe", "500"),
        (b"\x80\x02}(K\x01}K\x01}u.", "unsafe", "1 occurs twice"),
        (b"\x80\x04B\xff\xff\xff\xff.", "format", ""),
        (b"\x80\x02cnumpy\ndtype\n]\x85R.", "format", ""),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n]]\x86R.", "unsafe", "NoneType"),
        (b"", "format", ""),
        (b"\x80\x04}.junk"[:2], "format", ""),
        (b"<html>not found</html>", "format", ""),
    ],
)
def test_pickles_that_are_refused(content, code, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(content)
    with refused(DataError, code, "x.pkl", says) as e:
        make_split(pictures(6), file="x.pkl")
    assert "\n" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pkl"]
