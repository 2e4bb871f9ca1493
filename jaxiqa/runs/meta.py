"""What a checkpoint says of itself beside its arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxiqa.errors import CheckpointError
from jaxiqa.version import __version__

FORMAT = 1  # raised when an older version could not read, or would misread, what is written


@dataclasses.dataclass(frozen=True)
class CheckpointMeta:
    """Stored with each step, as JSON. What does not apply is empty.

    Attributes:
      card: of a model that gives scores (scoring.card.Card), as a dict.
      pretrained: of an encoder without scores: its model, crop and labels.
      config: that it was trained with.
      split: fingerprint of the split that it was trained on.
      transferred: whose scores it was trained on by label transfer (datasets.leaks.lent_scores).
      source: the foreign file that it was converted from.
      jaxiqa: version that wrote it.
      format: see FORMAT; 0 of jaxiqa 0.1.0.
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
        """What to_dict wrote into the checkpoint at `path`; CheckpointError if a newer version wrote it."""
        known = {field.name for field in dataclasses.fields(cls)}
        found = cls(**{"jaxiqa": "", "format": 0} | {key: value for key, value in values.items() if key in known})
        if found.format > FORMAT:
            raise CheckpointError(
                f"checkpoint {path} was written by jaxiqa {found.jaxiqa} in format {found.format}; this version reads "
                f"formats up to {FORMAT}: python -m pip install --upgrade jaxiqa"
            )
        return found
