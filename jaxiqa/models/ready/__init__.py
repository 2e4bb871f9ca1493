"""The weights that come with jaxiqa, under the name "ready": a checkpoint in the folder `compact`, its card in CARD.md.

The folder is an ordinary checkpoint, as jaxiqa.runs.checkpoint.save_once writes it, and is read as any other.
"""

import os
import pathlib
import sys

from jaxiqa.errors import CheckpointError

NAME = "ready"
MODEL = "compact"  # name of the model
FOLDER = pathlib.Path(__file__).resolve().parent / MODEL
CARD = FOLDER.with_name("CARD.md")


def find(checkpoint: str | os.PathLike) -> str | os.PathLike:
    """The folder that the name of a checkpoint stands for: FOLDER for the text "ready", else `checkpoint` itself.

    For a folder of this name in the current folder, give "./ready" or a path object.

    Raises:
      CheckpointError: the installation lacks the folder.
    """
    if checkpoint != NAME:
        return checkpoint
    if not FOLDER.is_dir():
        raise CheckpointError(
            f"checkpoint {NAME}: this installation lacks {FOLDER}; install jaxiqa again, or name another checkpoint",
            code="not_found",
            key=NAME,
        )
    return FOLDER


def by_default(checkpoint: str | os.PathLike | None, others: str) -> str | os.PathLike:
    """The checkpoint that the user names. Without one, "ready"; a line on standard error then says so.

    `others` tells in that line how to name another checkpoint.
    """
    if checkpoint:
        return checkpoint
    print(f'scoring with "{NAME}", the weights that come with jaxiqa; {others} names others', file=sys.stderr)
    return NAME
