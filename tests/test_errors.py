"""What to write instead of an unknown word; exit codes."""

import pytest

from jaxiqa.errors import CheckpointError, Stopped, exit_code_of, suggest


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("jpg", 'did you mean "jpeg"?'),
        ("jpeg200", 'did you mean "jpeg2000"?'),
        ("blur", "choose one of: jpeg, jpeg2000"),
        ("", "choose one of: jpeg, jpeg2000"),
    ],
)
def test_suggest(word, hint):
    assert suggest(word, {"jpeg": 1, "jpeg2000": 2}) == suggest(word, iter(["jpeg", "jpeg2000"])) == hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("damaged"), 4),
        (Stopped("at step 3", 15), 143),
        (KeyboardInterrupt(), 130),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 2),
        (RuntimeError("of another kind"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code_of(error) == code
