"""Row numbers in pickle files, as pyiqa and LoDa split: read without running anything, and all else refused."""

import os
import pickle

import numpy as np
import pytest
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
    d = load("livec", tree("livec"))  # its row numbers do not count the seven practice pictures
    rounds = {r: halves(1162, r) for r in range(1, 11)}
    del rounds[2]["test"]
    (tmp_path / "livec_seed123.pkl").write_bytes(pickle.dumps(rounds, protocol))
    for r in (1, 2, 10):
        s = make_split(d, r, "legacy", file=tmp_path / "livec_seed123.pkl")
        assert (s.train, s.test, s.val) == (sorted(rounds[r]["train"]), *[sorted(rounds[r]["val"])] * 2)
        assert (s.name, s.round, s.seed) == ("split file livec_seed123.pkl", r, None)
    assert_round_trip(tmp_path, d, s)
    with pytest.raises(ConfigError, match=r"livec_seed123\.pkl has no round 11; it has 1, 2, "):
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
    ("content", "message"),
    [
        (pickle.dumps(Gadget(os.system, ("touch canary",))), "its pickle asks for posix.system"),
        (pickle.dumps({1: Gadget(eval, ("1",))}), "its pickle asks for builtins.eval"),
        (pickle.dumps({1: np.arange(3)}), "its pickle asks for numpy"),
        (pickle.dumps({1: {"train": [np.float64(1)]}}), "has NumPy values of type f8"),
        (pickle.dumps({1: {"train": [0.5]}}), "uses opcode BINFLOAT"),
        (pickle.dumps({(1, 2): []}), "has a tuple as the key of a dict"),
        (pickle.dumps({1: {"train": [0]}}, 0), "uses opcode"),
        (pickle.dumps({1: {"train": [True], "val": [1]}}), "not of the form"),
        (pickle.dumps({1: {"train": [0], "rest": [1]}}), "not of the form"),
        (pickle.dumps([[0], [1]]), "not of the form"),
        (pickle.dumps({1: {"train": 3}}), "not of the form"),
        (b"\x80\x04]\x94h\x00a.", "not of the form"),  # a list in itself
        (b"\x80\x04c__main__\nX\n)\x81.", "its pickle asks for __main__.X"),
        (b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00i8tR.", "not of the form"),
        (b"\x80\x02(K\x01ctorch\nload\nK\x02tR.", "its pickle asks for torch.load"),
        (pickle.dumps({1: {"train": [0]}})[:-3], "not a pickle file, or a damaged one"),
        (b"\x80\x02Nr\x00\x00\x00\x80.", "its pickle asks for 2147483648 places in a memo"),
        (b"\x80\x02" + b"]" * 600 + b"a" * 599 + b".", "its pickle is nested over 500 deep"),
        (b"\x80\x02}(K\x01}K\x01}u.", "has a dict in which 1 occurs twice"),
        (b"\x80\x04B\xff\xff\xff\xff.", "not a pickle file, or a damaged one"),
        (b"\x80\x02cnumpy\ndtype\n]\x85R.", "not of the form"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n]]\x86R.", "has NumPy values of type NoneType"),
        (b"", "not a pickle file, or a damaged one"),
        (b"\x80\x04}.junk"[:2], "not a pickle file, or a damaged one"),
        (b"<html>not found</html>", "not a pickle file, or a damaged one|uses opcode"),
    ],
)
def test_pickles_that_are_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(DataError) as e:
        make_split(pictures(6), file="x.pkl")
    assert any(part in str(e.value) for part in message.split("|")) and "\n" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pkl"]
