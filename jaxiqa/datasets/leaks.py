"""Scores of references that a model has seen by label transfer, and must not be tested on with their own pictures."""

from collections.abc import Iterable, Mapping

from jaxiqa.datasets import fact
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.datasets.splits import Split
from jaxiqa.errors import ConfigError


def lent_scores(dataset: Dataset, split: Split) -> dict:
    """What a checkpoint says of the transferred labels that it is trained on; {} where they are the dataset's own.

    Raises:
      ConfigError: a split from a file trains and tests with scores of one reference.
    """
    lender = dataset.transferred
    if lender is None:
        return {}
    train, test = ({dataset.records[i].reference for i in part} for part in (split.train, split.test))
    if split.name != "official" and (both := sorted(train & test)):
        raise ConfigError(
            f"{split.name} trains and tests with scores of {len(both)} references, such as {both[0]}; leave "
            "config.split.file empty and name the split of the rated dataset by config.dataset.round"
        )
    return {"dataset": lender.dataset, "fingerprint": lender.fingerprint, "references": sorted(train)}


def seen_references(lent: Mapping, dataset: Dataset, records: Iterable[Record]) -> list[str]:
    """References of `records` whose scores a checkpoint was trained on, by label transfer; `lent` is of lent_scores.

    Folders of anyone's pictures are told apart by their fingerprints.
    """
    rated = dataset.transferred or dataset
    name = dataset.transferred.dataset if dataset.transferred else dataset.name
    if lent.get("dataset") != name or (fact(name, "ANYONES") and lent["fingerprint"] != rated.fingerprint):
        return []
    return sorted(set(lent["references"]) & {r.reference for r in records})


def refuse_leak(lent: Mapping, theirs: Mapping, path: str, dataset: Dataset, data: Mapping, split: Split) -> None:
    """ConfigError where a run that starts from the checkpoint at `path` would test on references that it has seen.

    Args:
      lent: what lent_scores said of the checkpoint.
      theirs: config.dataset that it was trained with.
      path: of the checkpoint, for the message.
      dataset, split: of the run.
      data: config.dataset of the run.
    """
    seen = seen_references(lent, dataset, [dataset.records[i] for i in split.test])
    if not seen:
        return
    round_ = data.get("round", split.round) if dataset.transferred else split.round
    whole = "" if theirs.get("hold_out", True) else ", hold_out=False"
    raise ConfigError(
        f"{path} was trained on scores of {len(seen)} of the references that this run tests, such as {seen[0]}: its "
        f"labels are of round {theirs.get('round', 1)} of {lent['dataset']}{whole}, this is round "
        f"{round_} ({split.name}); pretrain with --config.dataset.round={round_} and hold_out=True, or test on another "
        "dataset"
    )
