"""Where 0.1.0 had `save_once`: scripts that write a scorable checkpoint of their own import it from here.

New code calls jaxiqa.runs.checkpoint.save_once.
"""

import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from jaxiqa.runs import checkpoint
from jaxiqa.runs.checkpoint_meta import CheckpointMeta


def save_once(workdir: str | os.PathLike, state: Any, metadata: Mapping[str, Any]) -> None:
    """Writes a workdir with one checkpoint, as in 0.1.0: `metadata` is a mapping, such as {"card": card.to_dict()}.

    Raises:
      DiskFull: the checkpoint could not be written.
    """
    path = epath.Path(workdir)
    checkpoint.save_once(path, state, CheckpointMeta.from_dict({**CheckpointMeta().to_dict(), **metadata}, path))
