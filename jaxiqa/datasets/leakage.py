"""References whose scores a model was trained on through label transfer, and which it must not be tested on."""

from collections.abc import Iterable, Mapping

from jaxiqa.datasets import fact
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.splits import Split
from jaxiqa.errors import ConfigError


def lent_scores(dataset: Dataset, split: Split) -> dict:
    """Returns what a checkpoint stores about the transferred labels that it is trained on; {} if there are none.

    Raises:
      ConfigError: a split from a file trains and tests with scores of one reference.
    """
    rated = dataset.transferred
    if rated is None:
        return {}
    train, test = ({dataset.records[i].reference for i in part} for part in (split.train, split.test))
    if split.name != "official" and (both := sorted(train & test)):
        raise ConfigError(
            f"{split.name} uses scores of {len(both)} references, such as {both[0]}, for both training and test; leave "
            "config.split.file empty and choose the split of the rated dataset by config.dataset.round",
            code="leak",
            key="config.split.file",
        )
    return {"dataset": rated.dataset, "fingerprint": rated.fingerprint, "references": sorted(train)}


def seen_references(trained: Mapping, dataset: Dataset, records: Iterable[Record]) -> list[str]:
    """Returns the references of `records` whose scores a checkpoint was trained on through label transfer, sorted.

    Args:
      trained: what lent_scores stored in the checkpoint.
      dataset: the dataset of `records`. If its folders hold different images (ANYONES), the fingerprint must be the
        same too.
      records: the images of interest.
    """
    rated = dataset.transferred or dataset
    name = dataset.transferred.dataset if dataset.transferred else dataset.name
    if trained.get("dataset") != name or (fact(name, "ANYONES") and trained["fingerprint"] != rated.fingerprint):
        return []
    return sorted(set(trained["references"]) & {r.reference for r in records})


def refuse_leak(trained: Mapping, theirs: Mapping, path: str, dataset: Dataset, data: Mapping, split: Split) -> None:
    """Checks that a run which starts from a checkpoint does not test on references whose scores trained it.

    Args:
      trained: what lent_scores stored in the checkpoint.
      theirs: config.dataset of the checkpoint.
      path: the checkpoint, for the message.
      dataset, split: dataset and split of the run.
      data: config.dataset of the run.

    Raises:
      ConfigError: the run would test on such references.
    """
    seen = seen_references(trained, dataset, [dataset.records[i] for i in split.test])
    if not seen:
        return
    round_ = data.get("round", split.round) if dataset.transferred else split.round
    whole = "" if theirs.get("hold_out", True) else ", hold_out=False"
    raise ConfigError(
        f"{path} was trained on scores of {len(seen)} references that this run tests, such as {seen[0]} (labels: round "
        f"{theirs.get('round', 1)} of {trained['dataset']}{whole}; this run: round {round_} of {split.name}); pretrain "
        f"with --config.dataset.round={round_} and hold_out=True, or test on another dataset",
        code="leak",
        key=path,
    )
