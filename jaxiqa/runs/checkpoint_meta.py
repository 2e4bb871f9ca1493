"""The metadata of a checkpoint: what is stored beside its arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxiqa.errors import CheckpointError
from jaxiqa.version import __version__

FORMAT = 1  # increased if older versions cannot read, or would misread, what is written


@dataclasses.dataclass(frozen=True)
class CheckpointMeta:
    """Stored with each step, as JSON. Fields that do not apply are empty.

    Attributes:
      card: description of the scores (scoring.card.Card as a dict), if the model gives scores.
      pretrained: model, crop size and label mode, if it is a pretrained encoder without scores.
      config: config of the training run.
      split: fingerprint of the split that it was trained on.
      transferred: the datasets and references whose scores were used for transferred labels (datasets.leakage).
      source: the foreign weight file that it was converted from.
      jaxiqa: version of jaxiqa that wrote it.
      format: see FORMAT; 0 for jaxiqa 0.1.0.
    """

    card: dict = dataclasses.field(default_factory=dict)
    pretrained: dict = dataclasses.field(default_factory=dict)
    config: dict = dataclasses.field(default_factory=dict)
    split: str = ""
    transferred: dict = dataclasses.field(default_factory=dict)
    source: dict = dataclasses.field(default_factory=dict)
    jaxiqa: str = __version__
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path) -> "CheckpointMeta":
        """The inverse of to_dict, for the checkpoint at `path`; CheckpointError if the format is newer than FORMAT."""
        known = {field.name for field in dataclasses.fields(cls)}
        found = cls(**{"jaxiqa": "", "format": 0} | {key: value for key, value in values.items() if key in known})
        if found.format > FORMAT:
            raise CheckpointError(
                f"checkpoint {path} was written by jaxiqa {found.jaxiqa} in format {found.format}; this version reads "
                f"formats up to {FORMAT}: python -m pip install --upgrade jaxiqa",
                code="format",
                key=path,
            )
        return found
