"""All messages of errors and warnings in one file, messages.txt, so that a rewording is one diff to review.

`pytest tests/test_messages.py --renew-messages` writes it again.
"""

import ast
import difflib
import pathlib

from jaxiqa import errors

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "messages.txt"
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}


def text_of(node: ast.expr) -> str:
    """A message as it is written, with {expression} for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) for part in parts)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
    return f"{{{ast.unparse(node)}}}"


def calls(tree: ast.AST):
    """(what, call) of every error that is made and every warning that is printed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in ERRORS:
                yield node.func.id, node
            elif node.func.id == "print" and text_of(node.args[0]).startswith("warning"):
                yield "warning", node


def messages() -> str:
    lines = []
    for path in sorted((ROOT / "jaxiqa").rglob("*.py")):
        found = []
        for what, node in calls(ast.parse(path.read_text())):
            given = {word.arg: word.value for word in node.keywords}
            known = getattr(getattr(errors, what, None), "code", "")
            code = text_of(given["code"]) if "code" in given else known
            text = text_of(node.args[0]).replace("\n", "\\n")
            found.append((node.lineno, f"  {' '.join(filter(None, (what, code)))}: {text}"))
        if found:
            lines += [f"{path.relative_to(ROOT)}", *(line for _, line in sorted(found))]
    return "\n".join(lines) + "\n"


def test_messages(request):
    now = messages()
    if request.config.getoption("--renew-messages"):
        FILE.write_text(now)
    diff = "\n".join(difflib.unified_diff(FILE.read_text().splitlines(), now.splitlines(), lineterm="", n=0))
    assert not diff, f"{diff}\nread the new wording aloud, then: pytest {pathlib.Path(__file__).name} --renew-messages"


def test_every_error_has_a_code():
    without = []
    for path in sorted((ROOT / "jaxiqa").rglob("*.py")):
        for what, node in calls(ast.parse(path.read_text())):
            codes = [word.value for word in node.keywords if word.arg == "code"]
            known = getattr(getattr(errors, what, None), "code", "warning")
            if not codes and not known:
                without.append(f"{path.relative_to(ROOT)}:{node.lineno}")
            for code in codes:
                if isinstance(code, ast.Constant) and code.value not in errors.CODES:
                    without.append(f"{path.relative_to(ROOT)}:{node.lineno} {code.value!r}")
    assert not without, f"{len(without)} errors have no code of errors.CODES: {without}"
