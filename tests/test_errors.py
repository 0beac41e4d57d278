"""The tree of errors: stable codes, and what each says is to be done."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from restore_lib import errors
from restore_lib.errors import DriveBusy, Next, Refused, TapeflowError


def tree(kind: type[TapeflowError]) -> list[type[TapeflowError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


KINDS = [kind for kind in tree(TapeflowError) if kind.__module__ == errors.__name__]
BRANCHES = {
    errors.RetryLater: Next.RETRY,
    errors.GoElsewhere: Next.ELSEWHERE,
    errors.NeedsDecision: Next.PERSON,
    errors.Unrecoverable: Next.NEVER,
}


def test_the_picture_is_the_tree() -> None:
    assert errors.__doc__ is not None
    picture = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert picture == [kind.__name__ for kind in KINDS if kind is not TapeflowError]


def test_codes_are_unique_and_fit_the_catalog() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]{1,32}", code) for code in codes)


@pytest.mark.parametrize("kind", KINDS)
def test_each_says_what_is_next(kind: type[TapeflowError]) -> None:
    branches = [after for branch, after in BRANCHES.items() if issubclass(kind, branch)]
    assert [kind.next] == (branches or [Next.NEVER])
    assert kind("It broke.").retryable == (kind.next is Next.RETRY)
    assert 0 < kind.exit_code < 126
    assert kind.__doc__


def test_the_message_tells_the_remedy() -> None:
    error = DriveBusy("Drive 1 is taken.", volume="V1", attempt=3)
    assert str(error) == f"Drive 1 is taken. Remedy: {DriveBusy.default_remedy}"
    assert error.context == {"volume": "V1", "attempt": "3"}
    assert str(DriveBusy("Drive 1 is taken.", remedy="wait")) == "Drive 1 is taken. Remedy: wait"
    assert str(Refused("No.")) == "No."


def test_each_error_that_is_raised_has_a_remedy() -> None:
    without = {kind.__name__ for kind in KINDS if not kind.default_remedy}
    package = Path(errors.__file__).parent
    bare = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in without
        and "remedy" not in {keyword.arg for keyword in node.keywords}
    ]
    assert bare == []


def test_an_error_survives_the_way_to_another_process() -> None:
    error = DriveBusy("Drive 1 is taken.", remedy="wait", volume="V1")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, DriveBusy)
    assert (str(copy), copy.context) == (str(error), error.context)
