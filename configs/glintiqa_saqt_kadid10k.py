"""GlintIQA pretrained on pristine images, which the step distorts, with labels transferred from KADID-10k (SAQT).

  jaxiqa transfer --checkpoint converted/resnet101 --dataset kadid10k --data_dir /path/to/kadid10k \
      --pictures /path/to/kadis700k/ref_imgs --output saqt
  jaxiqa train --config glintiqa_saqt_kadid10k --workdir workdir/saqt --config.dataset.data_dir=saqt
  jaxiqa evaluate --checkpoint workdir/saqt --dataset tid2013 --data_dir /path/to/tid2013 --part all
  jaxiqa train --config glintiqa_kadid10k_from_saqt --workdir workdir/fine ...

No distorted training image is stored: the step distorts whole images of 384x512 on the device and then crops them. An
epoch has every image of the pool once, with a type and level drawn for this epoch. Each validation and test image has
one type and level, drawn once. These distorted images are written to the folder of the dataset at the start.

--config.dataset.round=R is the round of the split of KADID-10k whose references are held out. A model that is
fine-tuned or tested on KADID-10k in round R must be pretrained in round R; other rounds are refused.
--config.dataset.hold_out=False trains on the scores of all references, for models that are tested on other datasets
only.

glintiqa_saqt_kadid10k        our recipe: one cosine schedule, labels 0..1, 300 epochs of 50,000 crops
                              (ASSUMED: our choice).
glintiqa_saqt_kadid10k:paper  the recipe of the public code (arXiv 2408.03885): batch 128, Adam with L2, learning rate
                              and L2 1e-5, a cosine stepped each iteration. Each of its 50 epochs has all 125 versions
                              of each image; this equals 6,250 epochs here. It uses labels 0..9 and fp16; here labels
                              are 1..5, and the dtype is bfloat16.
glintiqa_saqt_kadid10k:test   the test variant, 1000 steps of 32 images: 25 images/s on two CPU cores. The learning rate
                              and the layout of the channel attention were chosen on five seeds (docs/results.md). To
                              fine-tune with other configs, add --config.model.cwsa_layout=plain.
glintiqa_saqt_kadid10k:smoke  four steps of :test, to check the set-up.

Both full recipes freeze the first layers of pretrained backbones. Convert the backbones (docs/convert.md) and give
--config.init.vgfe=converted/vit_small --config.init.clfe=converted/resnet50.
The full recipes have not been run to the end here, so no expected score is given.
"""

from ml_collections import ConfigDict

from jaxiqa.config import check_argument, default_config

# As in glintiqa_kadid10k: patch embedding, ViT blocks 0-4, ResNet stem and stages 1-2.
FROZEN = (r"^vgfe/backbone/(patch_embed|block[0-4])/", r"^clfe/backbone/(conv1|bn1|layer[12]_\d+)/")


def get_config(arg: str = "") -> ConfigDict:
    check_argument(arg, "paper", "test", "smoke")
    c = default_config("quality")
    c.model = dict(name="glintiqa", variant="vit_s16_r50", dropout=0.5, cwsa_layout="reference")
    c.init.update(vgfe="", clfe="")  # converted backbones to start from
    c.dtype = "bfloat16"
    c.frozen = FROZEN
    c.dataset.update(name="saqt", pictures="")  # from jaxiqa transfer; pictures: folder of the pool, if it was moved
    c.dataset.types = tuple(range(1, 26))  # of KADID-10k; on a CPU, types 3, 4, 15 and 19 take half of the time
    c.dataset.round = 1  # of the split of the rated dataset
    c.dataset.hold_out = True  # do not train on images matched to validation and test references of that split
    c.cache_gb = 32.0  # 50,000 images take 27.5
    c.batch_size = 128
    c.total = "300 epochs"
    c.eval_every = c.save_every = "10 epochs"
    if arg == "paper":
        c.seed = 12345
        c.frozen_bn = "train"
        c.labels = "native"
        c.total, c.eval_every, c.save_every = "6250 epochs", "125 epochs", "125 epochs"
        c.optimizer.update(name="adam", learning_rate=1e-5, weight_decay=1e-5, decay_on="", grad_clip_norm=0.0)
        c.schedule.update(name="cosine_wave", warmup="0 steps", half_period="30 steps")
        c.test_crops = "random:25"
    elif arg in ("test", "smoke"):
        c.model.update(variant="test", dropout=0.1, cwsa_layout="plain")
        c.dtype, c.frozen = "float32", ()
        c.loss = "huber+0.5*plcc"
        c.optimizer.learning_rate = 5e-4
        c.cache_gb, c.batch_size, c.total = 2.0, 32, "1000 steps"
        c.log_every, c.eval_every, c.save_every = "20 steps", "25 percent", "25 percent"
    if arg == "smoke":
        c.batch_size, c.total = 8, "4 steps"
        c.log_every, c.eval_every, c.save_every = "1 steps", "2 steps", "2 steps"
    return c
