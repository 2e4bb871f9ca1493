"""Options of a dataset's reader as a command line gives them: --option KEY=VALUE."""

import ast
from collections.abc import Iterable

from jaxiqa.errors import ConfigError


def parse_options(texts: Iterable[str]) -> dict:
    """Returns {KEY: VALUE} of texts KEY=VALUE. A value that is a Python literal is read as one, else it is text.

    Raises:
      ConfigError: a text without "=".
    """
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(
                f"--option {text}: write it as KEY=VALUE, e.g. --option group_column=content",
                code="value",
                key="--option",
            )
        try:
            options[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            options[key] = value
    return options
