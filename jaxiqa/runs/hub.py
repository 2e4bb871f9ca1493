"""Checkpoints on a hub of Hugging Face: hf://OWNER/NAME or hf://OWNER/NAME@REVISION.

The library huggingface_hub (the extra [hub]) talks to the hub, keeps what it has fetched, and finds the user's token.
Its variables apply: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN. Only the two files that jaxiqa.runs.portable reads
are fetched.
"""

import os
import re
from typing import Any

from jaxiqa.errors import CheckpointError, ConfigError, printable
from jaxiqa.runs.portable import ABOUT, README, WEIGHTS
from jaxiqa.version import __version__

SCHEME = "hf://"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_REPO = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(rf"{_PART}(/{_PART})*")


def find(checkpoint: str | os.PathLike) -> str | os.PathLike:
    """The folder that holds a checkpoint of a hub, which is fetched if it is not here; any other path itself.

    Raises:
      CheckpointError: it cannot be fetched, holds no checkpoint of jaxiqa, or the extra [hub] is not installed.
    """
    text = os.fspath(checkpoint)
    if not text.startswith(SCHEME):
        return checkpoint
    repo, at, revision = text.removeprefix(SCHEME).partition("@")
    if not _REPO.fullmatch(repo) or (at and not _REVISION.fullmatch(revision)):
        raise CheckpointError(
            f"checkpoint {printable(text)} is not a name on a hub; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION",
            code="value",
            key=text,
        )
    hub = _library(text, CheckpointError)
    try:
        folder = hub.snapshot_download(
            repo,
            revision=revision or None,
            allow_patterns=[WEIGHTS, ABOUT],
            library_name="jaxiqa",
            library_version=__version__,
        )
    except Exception as error:  # of the hub, of HTTP, of the disk
        absent = _is_absent(error)
        why = "the hub shows you no such repository or revision" if absent else _why(error)
        raise CheckpointError(
            f"checkpoint {text} cannot be fetched ({why}); check its name, the network and your access",
            code="not_found" if absent else "unreadable",
            key=text,
        ) from error
    if not os.path.isfile(os.path.join(folder, ABOUT)):
        raise CheckpointError(
            f"checkpoint {text} has no {ABOUT}; name one that jaxiqa convert --push has written",
            code="format",
            key=text,
        )
    return folder


def upload(folder: str | os.PathLike, repo: str) -> str:
    """Uploads a folder of jaxiqa.runs.portable in one commit, and returns hf://OWNER/NAME@COMMIT.

    A repository ("OWNER/NAME") that does not exist is created, as private.

    Raises:
      ConfigError: `repo` is not such a name, the extra [hub] is not installed, or the hub refuses.
    """
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"--push {printable(repo)} is not a repository; write OWNER/NAME", code="value", key="--push")
    hub = _library("--push", ConfigError)
    try:
        hub.create_repo(repo, private=True, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[WEIGHTS, ABOUT, README],
            commit_message=f"Checkpoint of jaxiqa {__version__}",
        )
    except Exception as error:  # of the hub, of HTTP
        raise ConfigError(
            f"--push {repo}: the hub did not accept the checkpoint ({_why(error)}); check the name, the network and "
            "your token (hf auth login)",
            code="unwritable",
            key="--push",
        ) from error
    return f"{SCHEME}{repo}@{done.oid}"


def _library(key: str, kind: type[CheckpointError] | type[ConfigError]) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise kind(
            f'{key} needs the package huggingface_hub; run python -m pip install "jaxiqa[hub]"',
            code="package",
            key="huggingface_hub",
        ) from error
    return huggingface_hub


def _is_absent(error: Exception) -> bool:
    from huggingface_hub import errors

    absent = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
    return isinstance(error, absent) and not isinstance(error, errors.GatedRepoError)


def _why(error: Exception) -> str:
    """The first sentence of an error, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0])[:200].rstrip(".") if lines else type(error).__name__
