"""What to write instead of an unknown word."""

import pytest

from jaxiqa.errors import suggest


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
