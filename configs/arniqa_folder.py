"""ARNIQA on your own images: a linear regressor of the features of a trained encoder, which stays frozen.

  jaxiqa train --config arniqa_folder --workdir workdir/mine \
      --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content \
      --config.init.encoder=converted/arniqa

The CSV and the split are as in glintiqa_folder. config.init.encoder is the authors' model (docs/convert.md), a
converted ResNet-50 or a run of `jaxiqa pretrain`. Only its encoder is used; the regressor starts from random weights.
--config.frozen="()" trains the encoder too.

arniqa_folder        the variant resnet50, for a GPU. It has not been run to the end here.
arniqa_folder:smoke  the test variant for four steps, all of it trained, to check the set-up.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "smoke")
    c = default_config("quality")
    c.model = dict(name="arniqa", variant="resnet50")
    c.init.encoder = ""  # ARNIQA or ResNet-50 (converted or pretrained) to start from
    c.frozen = ("^encoder/",)
    c.dataset.update(name="folder", csv="index.csv", path_column="path", label_column="mos")
    c.dataset.group_column = ""  # column of the content; "": every image is its own content
    c.dataset.score_range = (1.0, 5.0)  # ends of the rating scale
    c.dataset.higher_is_better = True  # False for DMOS
    c.batch_size = c.eval_batch_size = 64
    c.total = "1500 steps"
    c.loss = "huber+0.5*plcc"
    c.optimizer.learning_rate = 2e-3
    c.test_crops = "five"
    if arg == "smoke":
        c.model.variant, c.frozen = "test", ()
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
