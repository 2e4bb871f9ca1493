"""A distortion-aware encoder (ResNet-50) from a folder of pristine images, by supervised contrastive learning.

  jaxiqa pretrain --config dan_folder --workdir workdir/dan --config.pictures=/path/to/images

The paper (MFEN, arXiv 2411.07556) says that its distortion-aware branch is a ResNet-50, pretrained contrastively to
tell distortions apart. The images, labels, loss, temperature and optimiser are ASSUMED (our choice). They follow
CONTRIQUE, SaTQA and ARNIQA.
Suitable images are ref_imgs of KADIS-700k (140,000), the Waterloo Exploration Database, or your own. They should be
sharp and have little or no compression.

dan_folder        ResNet-50, 224-pixel crops, 2 million crops. Start from ImageNet weights (recommended) with
                  --config.init.encoder=converted/resnet50.
dan_folder:test   the small encoder of the test variant of MFEN on 64-pixel crops; minutes on a CPU.
dan_folder:smoke  four steps of dan_folder:test, to check the set-up.

The full recipe has not been run to the end here.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "test", "smoke")
    c = default_config("contrastive")
    c.model = dict(name="resnet50", variant="resnet50")
    c.dtype = "bfloat16"  # similarities and loss stay float32
    c.batch_size = c.eval_batch_size = 256
    c.total = "2000000 examples"
    c.optimizer.update(name="adam", learning_rate=3e-4, weight_decay=1e-5, decay_on="", grad_clip_norm=0.0)
    c.schedule.warmup = c.eval_every = c.save_every = "5 percent"
    if arg in ("test", "smoke"):
        c.model.variant, c.dtype = "test", "float32"
        c.projector.update(hidden=256, features=64)
        c.optimizer.learning_rate = 2e-3
        c.total, c.log_every, c.eval_every, c.save_every = "1000 steps", "20 steps", "20 percent", "20 percent"
    if arg == "smoke":
        c.batch_size, c.eval_batch_size, c.probe_pictures, c.total = 16, 64, 4, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
