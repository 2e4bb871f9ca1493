"""--keep: which images of a set are kept, by a condition on the columns of their rows."""

import contextlib
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from etils import epath

from jaxiqa.errors import ConfigError, suggest
from jaxiqa.files import replacing
from jaxiqa.scoring.card import WORDS
from jaxiqa.scoring.columns import ROW_TEXTS

_OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_TERM = re.compile(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*")


def parse_condition(text: str, columns: Sequence[str]) -> Callable[[Mapping], bool]:
    """Returns the function of a row that tells whether its image is kept. Refused images never are.

    Args:
      text: COLUMN OPERATOR VALUE, e.g. "score>=40" or "word!=bad"; several are joined by "and".
      columns: columns of the rows.

    Raises:
      ConfigError: the text has another form, names another column, or compares a column with what it cannot hold.
    """
    terms = []
    for part in re.split(r"\band\b", text):
        found = _TERM.fullmatch(part)
        if not found:
            raise ConfigError(
                f'--keep="{text}": write COLUMN, one of {" ".join(_OPERATORS)}, and a value, e.g. --keep "score>=40"',
                code="value",
                key="--keep",
            )
        column, sign, value = found.groups()
        if column not in columns:
            raise ConfigError(
                f'--keep="{text}": there is no column {column}; {suggest(column, columns)}',
                code="unknown",
                key="--keep",
            )
        terms.append((column, _OPERATORS[sign], _value(text, column, value.strip("'\""))))

    def keeps(row: Mapping) -> bool:
        return row["status"] == "ok" and all(
            type(row[column]) is type(value) and compare(row[column], value) for column, compare, value in terms
        )

    return keeps


def _value(condition: str, column: str, text: str) -> float | str:
    if column == "word" and text not in WORDS:
        raise ConfigError(
            f'--keep="{condition}": there is no word {text}; {suggest(text, WORDS)}', code="unknown", key="--keep"
        )
    if column in ROW_TEXTS:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(
            f'--keep="{condition}": {column} is a number; give a number, not {text}', code="value", key="--keep"
        ) from error


@contextlib.contextmanager
def writing_list(path: epath.PathLike) -> Iterator[Callable[[str], object]]:
    """Yields write(name), for a list that @FILE reads: one name in each line. The file appears when it is complete.

    A line cannot hold a name with line breaks: such names are left out, and a line on standard error counts them.
    """
    left_out = 0

    def write(name: str) -> None:
        nonlocal left_out
        if "\n" in name:
            left_out += 1
        else:
            file.write(name.encode("utf-8", "surrogateescape") + b"\n")

    with replacing(path) as unfinished, unfinished.open("wb") as file:
        yield write
    if left_out:
        print(f"{path} lacks {left_out} images whose names hold line breaks", file=sys.stderr)
