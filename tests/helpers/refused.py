"""Tests of errors: by class, which sets the exit code, by code, by key and by named values; not by wording."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from jaxiqa.errors import UserError


@contextlib.contextmanager
def refused(
    kind: type[UserError], code: str, key: str | os.PathLike | None = None, *names: str
) -> Iterator[pytest.ExceptionInfo]:
    """Expects the block to raise `kind` with this code.

    Args:
      kind: the class, or a subclass of it.
      code: one of jaxiqa.errors.CODES.
      key: the key of the error; None accepts any.
      *names: values that the message must contain, such as a file, a row or the nearest name.
    """
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert error.code == code, f"{error.code}: {error}"
    assert key is None or error.key == os.fspath(key), f"{error.key}: {error}"
    missing = [text for text in names if text not in str(error)]
    assert not missing, f"{missing} not in: {error}"
