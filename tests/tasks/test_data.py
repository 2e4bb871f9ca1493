"""What a quality run refuses of its data before it trains."""

import shutil

import pytest
from refused import refused
from tiny_run import CNNIQA, make_config

from jaxiqa.errors import DataError
from jaxiqa.tasks.data import TrainingData


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("val",), ("test",)])
def test_a_part_whose_labels_are_all_the_same(pictures, tmp_path, parts):
    config = make_config(pictures, CNNIQA, **{"dataset.data_dir": str(tmp_path), "dataset.score_range": (1.0, 5.0)})
    index = shutil.copy(pictures / "index.csv", tmp_path / "index.csv")
    for image in pictures.glob("*.png"):
        (tmp_path / image.name).symlink_to(image)
    data = TrainingData(config, 32, None)
    data.open()
    same = {data.dataset.records[i].id for part in parts for i in getattr(data.split, part)}
    header, *rows = index.read_text().splitlines()
    rows = [(name, "3.0" if name in same else score, *rest) for name, score, *rest in (row.split(",") for row in rows)]
    index.write_text("\n".join([header, *map(",".join, rows)]))
    with refused(DataError, "value", "folder", f"{parts[0]} part", "3"):
        TrainingData(config, 32, None).open()
