"""Ablations of MFEN: what each part adds. One row of the table is one argument of this file.

  jaxiqa protocol --config mfen_ablations --workdir workdir/ablations --rounds 3 --selection val \
      -- --config.dataset.data_dir=/path/to/folder --config.dataset.group_column=content \
      --config.init.dan=workdir/dan_small

This command trains and tests every row of ROWS three times and prints the table. The dataset is `folder`, or the one
in the argument: mfen_ablations:tid2013 (or sample, kadid10k, koniq10k). mfen_ablations:full,tid2013 is a single row;
`jaxiqa train` takes it too.

On the datasets folder and sample, the `test` variant trains from random weights on a CPU. The other datasets use VAN-B2
and the recipe of mfen_tid2013. config.init.dan and config.init.qen apply to the rows that have these parts. Pretrain
the DAN with dan_folder:test for the `test` variant, else with dan_folder. The rows of the paper's tables are not known,
so these rows are ASSUMED (our choice). For another VAN give --config.model.variant=van_b0. For another label_mode of
the DAN, run dan_folder again.
"""

from ml_collections import ConfigDict

from jaxiqa.config import default_config
from jaxiqa.errors import ConfigError

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


def get_config(arg: str = "full") -> ConfigDict:
    row, _, dataset = (arg or "full").partition(",")
    dataset = dataset or "folder"
    if row not in ROWS or dataset not in DATASETS:
        raise ConfigError(
            f'the argument must be ROW, ROW,DATASET or empty, not "{arg}"; ROW is one of {", ".join(ROWS)}; DATASET is '
            f"one of {', '.join(DATASETS)}",
            code="unknown",
            key="argument",
        )
    c = default_config("quality")
    c.model = dict(
        name="mfen", variant="van_b2", guidance="inline", ffm="aff", dan_fusion="all", daf="aff", hfen=True,
        dan_frozen=True, multi_scale_head=True, alpha=0.25, dropout=0.5,
    )  # fmt: skip
    c.model.update(ROWS[row])
    c.init.update(qen="", dan="")  # VAN (converted) and DAN (pretrained) to start from
    c.dataset.name = dataset
    if dataset == "folder":
        c.dataset.update(csv="index.csv", path_column="path", label_column="mos", group_column="")
        c.dataset.update(score_range=(1.0, 5.0), higher_is_better=True)
    c.batch_size = 64
    if dataset in ("folder", "sample"):
        c.model.update(variant="test", dropout=0.1)
        c.total = "600 steps"
        c.loss = "huber+0.5*plcc"
        c.optimizer.learning_rate = 2e-3
        c.eval_every = c.save_every = "25 percent"
    else:
        c.dtype = "bfloat16"
        c.total = "250 epochs"
        c.optimizer.update(name="adam", learning_rate=2e-5, weight_decay=5e-4)
        c.optimizer.lr_multipliers = ((r"^(hfen|ffm|aff|dan_proj|head)", 10.0),)
        c.schedule.update(name="steps", warmup="0 steps", drops=("60 percent", "80 percent"))
        c.eval_every = c.save_every = "10 epochs"
    return c
