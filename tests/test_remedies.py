"""Every remedy in every error is followed by a test.

A test that provokes an error and then does what its message says is marked with the function that raises it:

@pytest.mark.remedy("data/layout.py::Layout.open")

A function that raises several errors needs as many marks; one test may carry several. `python tests/test_remedies.py
data images` lists what is missing in parts of the package.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "ppar_lightning"
ENDS = ("leave", "fail")
"""Functions that print their first argument as an error and exit."""


def test_every_remedy_is_followed():
    assert not missing()


def test_every_mark_names_a_function_that_raises():
    assert not set(followed()) - set(raised())


def missing() -> dict[str, int]:
    """Return function -> number of its errors whose remedy no test follows."""
    return dict(raised() - followed())


def raised() -> Counter[str]:
    """Count the errors with a message of their own in each function of the package."""
    return Counter(
        f"{path.relative_to(PACKAGE)}::{name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in messages(ast.parse(path.read_text()), "")
    )


def messages(node: ast.AST, name: str) -> Iterator[str]:
    """Yield the qualified name of the enclosing function for each error with a text."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from messages(child, f"{name}.{child.name}".lstrip("."))
        else:
            call = child.exc if isinstance(child, ast.Raise) else child if is_end(child) else None
            if isinstance(call, ast.Call) and any(isinstance(each, ast.JoinedStr | ast.Constant) for each in call.args):
                yield name
            yield from messages(child, name)


def is_end(node: ast.AST) -> bool:
    """Return whether a node calls one of ENDS."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ENDS


def followed() -> Counter[str]:
    """Count the marks in the tests."""
    return Counter(
        argument.value
        for path in sorted(Path(__file__).parent.glob("test_*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "remedy"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    )


if __name__ == "__main__":
    for function, count in missing().items():
        if function.startswith(tuple(sys.argv[1:]) or ""):
            print(count, function)
