"""Options of a dataset's reader as a command line gives them: --option KEY=VALUE."""

import ast
from collections.abc import Iterable

from jaxiqa.errors import ConfigError


def parse_options(texts: Iterable[str]) -> dict:
    """{KEY: VALUE} of texts KEY=VALUE; values are Python literals where they look like one, else text.

    Raises:
      ConfigError: a text without "=".
    """
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--option {text}: write it as KEY=VALUE, e.g. --option group_column=content")
        try:
            options[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            options[key] = value
    return options
