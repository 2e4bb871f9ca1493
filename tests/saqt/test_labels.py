"""Label tables of rated datasets, types shared with KADID-10k, and the reference whose labels an image gets."""

import dataclasses

import numpy as np
import pytest
from refused import refused

from jaxiqa.datasets import facts, kadid_types, load
from jaxiqa.datasets.readers import csiq, tid2013
from jaxiqa.datasets.readers.kadid10k import DISTORTIONS
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.evaluation.metrics import srcc
from jaxiqa.saqt.labels import find_references, label_sources, make_table
from jaxiqa.saqt.matching import number_references


@pytest.fixture
def rated():
    """Three references with jpeg and lens_blur at two levels; scores say which."""
    records = [
        Record("", 1 + r + 0.1 * t + 0.01 * level, f"{r}{t}{level}", f"R{r}", name, level)
        for r in (2, 0, 1)
        for t, name in ((10, "jpeg"), (2, "lens_blur"), (99, "rain"))
        for level in (2, 1)
    ]
    return Dataset("folder", [*records, Record("", 1.0, "unknown", "R0", "jpeg", 0)], (1.0, 20.0), True)


def test_a_table(rated):
    table = make_table(rated, kadid_types("folder"))
    assert table.references == ["R2", "R0", "R1"]  # as the records name them, which splits are drawn from
    assert table.cells == [(2, 1), (2, 2), (10, 1), (10, 2)]
    np.testing.assert_allclose(table.mos_RC[1], [1.21, 1.22, 2.01, 2.02])
    assert table.extremes == (1.0, 3 + 9.9 + 0.02) and table.scale == rated.scale
    np.testing.assert_allclose(table.public("top1"), 9 * (table.mos_RC - 1) / 11.92)
    mean = 9 * (table.mos_RC.mean(0) - 1) / 11.92
    np.testing.assert_allclose(table.public("cell_mean"), np.stack([mean] * 3))


def test_incomplete_and_doubled_tables_are_refused(rated):
    types = kadid_types("folder")
    lacking = dataclasses.replace(rated, records=rated.records[1:])
    with refused(DataError, "missing", None, "R2 type 10 level 2"):
        make_table(lacking, types)
    doubled = dataclasses.replace(rated, records=[*rated.records, Record("", 1.0, "again", "R2", "jpeg", 2)])
    with refused(DataError, "format", None, "again"):
        make_table(doubled, types)
    for names_nothing in ({"reference": ""}, {"distortion": "rain"}, {"level": 0}):
        records = [dataclasses.replace(r, **names_nothing) for r in rated.records]
        with refused(ConfigError, "missing", None, "group_column"):
            make_table(dataclasses.replace(rated, records=records), types)


def test_shared_types():
    assert kadid_types("kadid10k") == {name: i for i, name in enumerate(DISTORTIONS, 1)}
    shared = facts("SHARED_TYPES")
    assert set(shared["tid2013"]) < set(tid2013.DISTORTIONS) and set(shared["csiq"]) < set(csiq.COUNTS)
    assert kadid_types("csiq") == {"awgn": 11, "blur": 1, "jpeg": 10, "jpeg2000": 9}
    for name in ("tid2013", "csiq"):
        types = kadid_types(name)
        assert len(set(types.values())) == len(types)
        assert not {18, 23, 25} & set(types.values())  # their levels are not strengths in both
    with refused(ConfigError, "value", None, "csiq, folder, kadid10k, tid2013", "live"):
        kadid_types("live")


def test_whose_scores():
    names, match = [f"{i}.png" for i in range(20_000)], np.arange(20_000) % 7
    for mode in ("top1", "cell_mean"):
        np.testing.assert_array_equal(label_sources(mode, names, match, 81, 0), match)
    drawn = label_sources("random", names, match, 81, 0)
    assert np.bincount(drawn, minlength=81).min() > 150 and len(np.bincount(drawn)) == 81
    assert abs(np.corrcoef(drawn, match)[0, 1]) < 0.03
    np.testing.assert_array_equal(label_sources("random", names[5:], match[5:], 81, 0), drawn[5:])
    assert (label_sources("random", names, match, 81, 1) != drawn).mean() > 0.95


def test_reference_images(tmp_path):
    for path in ("images/I01.png", "images/I01_01_01.png", "ref/i02.BMP", "images/notes.txt", "images/I02.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    found = find_references(["I01", "I02"], str(tmp_path))
    assert found == {"I01": str(tmp_path / "images/I01.png"), "I02": str(tmp_path / "ref/i02.BMP")}
    (tmp_path / "ref/I01.jpg").touch()
    with refused(DataError, "mismatch", None, "I01 (2), I03 (0)", "--references"):
        find_references(["I01", "I02", "I03"], str(tmp_path))


def test_names_of_references():
    assert number_references(["I02.png", "i01.BMP", "I02"], ["I01", "I02"], "f.csv").tolist() == [1, 0, 1]
    with refused(DataError, "unknown", None, "f.csv", "I03.png, x"):
        number_references(["I01", "x", "I03.png", "x"], ["I01", "I02"], "f.csv")


@pytest.fixture
def tables(shared, tmp_path):
    """Label tables of the three datasets, from published lists of their labels."""
    labels = shared / "data/labels"

    def get(name):
        root = tmp_path / name
        root.mkdir()
        if name == "csiq":
            text = (labels / "hyperIQA/csiq_label.txt").read_text()
            (root / "csiq_label.txt").write_text(text)
            folder, names = root / "dst_imgs", [line.split()[0] for line in text.splitlines()]
        elif name == "tid2013":
            rows = [line.split(",") for line in (labels / "icbcbicc_IQA-Dataset/TID2013.txt").read_text().splitlines()]
            at = {column: i for i, column in enumerate(rows[0])}
            pairs = [(r[at["dis_img_path"]].split("/")[-1], r[at["score"]]) for r in rows[1:]]
            (root / "mos_with_names.txt").write_text("\n".join(f"{mos} {file}" for file, mos in pairs))
            folder, names = root / "distorted_images", [file for file, _ in pairs]
        else:
            rows = [line.split() for line in (labels / "VisualQuality-R1/KADID-10K_mos.txt").read_text().splitlines()]
            lines = ["dist_img,ref_img,dmos,var", *(f"{file},{ref},{mos},0" for ref, file, mos, _ in rows)]
            (root / "dmos.csv").write_text("\n".join(lines))
            folder, names = root / "images", [file for _, file, *_ in rows]
        folder.mkdir()
        for file in names:
            (folder / file).touch()
        return make_table(load(name, root), kadid_types(name))

    return get


@pytest.mark.slow
def test_tables_of_real_datasets(tables):
    kadid = tables("kadid10k")
    assert kadid.mos_RC.shape == (81, 125) and kadid.extremes == (1.0, 4.93)
    assert kadid.references[0] == "I01" and kadid.cells[7] == (2, 3)
    mean = kadid.public("cell_mean")[40]
    assert abs(mean[kadid.cells.index((1, 3))] - 4.37) < 0.01  # the spec's example: 9 (2.91 - 1.00) / 3.93
    assert (kadid.public("top1").min(), kadid.public("top1").max()) == (0, 9)
    tid2013 = tables("tid2013")
    assert tid2013.mos_RC.shape == (25, 12 * 5) and tid2013.extremes == (0.24242, 7.2143)
    csiq_ = tables("csiq")
    assert csiq_.mos_RC.shape == (30, 4 * 5) and not csiq_.scale.higher_is_better
    assert csiq_.references == sorted(csiq_.references, reverse=True)
    for table in (kadid, tid2013, csiq_):  # the strength rises with the level, in both directions of labels
        for type_ in set(kadid_types("tid2013").values()) & {type_ for type_, _ in table.cells}:
            columns = [table.cells.index((type_, level)) for level in range(1, 6)]
            score01 = table.scale.to_score01(table.mos_RC[:, columns].mean(0))
            assert srcc(score01, np.arange(5)) <= -0.899, (table.dataset, type_, score01)
