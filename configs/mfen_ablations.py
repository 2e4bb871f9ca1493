"""Ablations of MFEN: what each part adds. One row of the table is one argument of this file.

  python -m jaxiqa.protocol --config configs/mfen_ablations.py --workdir workdir/ablations --rounds 3 \
      --selection val -- --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content \
      --config.init.dan=workdir/dan_small

trains and tests every row of ROWS three times and prints the table. mfen_ablations.py:tid2013 (sample, kadid10k,
koniq10k) does so on that dataset, mfen_ablations.py:full,tid2013 is one row of it, which jaxiqa.train takes as well.

folder and sample train the `test` variant from nothing, on a CPU; the others take VAN-B2 and the recipe of
configs/mfen_tid2013.py. config.init.dan and config.init.qen hold for the rows that have these parts: for the `test`
variant a DAN pretrained by configs/dan_folder.py:test, else one by configs/dan_folder.py. The rows of the paper's
tables are not known, so all of this is ASSUMED. Another VAN is --config.model.variant=van_b0, and other labels of the
DAN are another run of configs/dan_folder.py.
"""

import ml_collections

ROWS = {
    "qen": dict(hfen=False, dan_fusion="none"),
    "hfen": dict(dan_fusion="none"),
    "dan": dict(hfen=False),
    "add": dict(ffm="add", daf="add"),
    "concat": dict(ffm="concat", daf="concat"),
    "full": dict(),
    "side": dict(guidance="side"),
    "alpha_0125": dict(alpha=0.125),
    "alpha_05": dict(alpha=0.5),
}
DATASETS = ("folder", "sample", "tid2013", "kadid10k", "koniq10k")


def get_config(arg: str = "full") -> ml_collections.ConfigDict:
    row, _, dataset = (arg or "full").partition(",")
    dataset = dataset or "folder"
    if row not in ROWS or dataset not in DATASETS:
        raise ValueError(
            f"mfen_ablations.py takes no argument or ROW,DATASET with a row of {', '.join(ROWS)} and a dataset of "
            f"{', '.join(DATASETS)}, not {arg!r}"
        )
    small = dataset in ("folder", "sample")
    c = ml_collections.ConfigDict()
    c.seed = 0

    c.model = dict(
        name="mfen", variant="test" if small else "van_b2", guidance="inline", ffm="aff", dan_fusion="all", daf="aff",
        hfen=True, dan_frozen=True, multi_scale_head=True, alpha=0.25, dropout=0.1 if small else 0.5,
    )  # fmt: skip
    c.model.update(ROWS[row])
    c.init = dict(model="", qen="", dan="")  # where it starts: the whole model, or VAN (converted) and DAN (pretrained)
    c.dtype = "float32" if small else "bfloat16"  # of the computation; parameters are float32
    c.frozen = ()  # regular expressions over parameter paths
    c.frozen_bn = "eval"  # BatchNorm of frozen parts: eval (running statistics) | train (batch statistics)

    c.dataset = dict(name=dataset, data_dir="")
    if dataset == "folder":
        c.dataset = dict(
            name="folder", data_dir="", csv="index.csv", path_column="path", label_column="mos", group_column="",
            score_range=(1.0, 5.0), higher_is_better=True,
        )  # fmt: skip
    c.split = dict(round=1, selection="val", file="")  # selection: val | legacy; file: a split of others
    c.labels = "score01"  # score01 (0..1, higher is better) | native
    c.resize = 0  # shorter side of every picture in pixels; 0: as it is
    c.cache_gb = 8.0  # GiB of decoded pictures kept in memory, for each part

    c.batch_size = 64  # global
    c.total = "600 steps" if small else "250 epochs"  # durations: N steps | epochs | examples | percent
    c.accumulate = 1  # parts of a batch that are computed one after the other; gradients are their mean
    c.ema = 0.0  # decay of averaged parameters, which then score (0.999 averages the last 1000 steps); 0: off
    c.loss = "huber+0.5*plcc" if small else "l1"  # l1 | l2 | huber | plcc | rank, or a weighted sum of them
    c.skip_nonfinite = False  # True: a step whose loss or gradient is no number changes nothing
    c.optimizer = dict(
        name="adam", learning_rate=2e-5, weight_decay=5e-4, decay_on="kernel$", b1=0.9, b2=0.999, eps=1e-8,
        grad_skip_norm=0.0,  # a step whose gradient has a larger norm changes nothing and is counted; 0: off
        grad_clip_norm=1.0, lr_multipliers=((r"^(hfen|ffm|aff|dan_proj|head)", 10.0),),
    )  # fmt: skip
    c.schedule = dict(name="steps", warmup="0 steps", half_period="30 steps", drops=("60 percent", "80 percent"))
    if small:
        c.optimizer.update(name="adamw", learning_rate=2e-3, weight_decay=1e-2, lr_multipliers=())
        c.schedule.update(name="cosine", warmup="3 percent", drops=())

    c.test_crops = "grid"  # grid (every pixel) | random:N
    c.eval_batch_size = 128  # crops
    c.log_every = "50 steps"
    c.eval_every = "25 percent" if small else "10 epochs"
    c.save_every = "25 percent" if small else "10 epochs"
    c.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    return c
