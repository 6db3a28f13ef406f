"""Checks for the notebooks' exercises: each answers with a sentence.

Right prints one. An exercise that is untouched raises `Unsolved`, a wrong one `Wrong`; in a
notebook both show their sentence instead of a traceback.

    check_calls(my_iou, [((a, b), 0.5), ((a, a), 1.0)], hint="...")   # a function, by its values
    check_value(my_number, 3)                                         # a value
    check_claims(my_text, {"it parses": lambda text: ...})            # anything, by what must hold
    check_choices(my_guesses, {"A": "late", "B": "space"})            # one choice for each name
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np


class _Sentence(Exception):
    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


class Unsolved(_Sentence):
    """Nothing has been written in place of `...` yet."""


class Wrong(_Sentence):
    """There is an answer, and it is not right."""


def check_calls(
    attempt: Callable[..., Any],
    calls: Iterable[tuple[tuple[Any, ...], Any]],
    hint: str = "",
    tolerance: float = 1e-6,
) -> None:
    """Call `attempt` with each tuple of arguments and compare with the value that belongs to it.

    Numbers and arrays may differ by `tolerance`.

    >>> check_calls(lambda a, b: a + b, [((1, 2), 3), ((0, 0), 0)])
    Right: 2 of 2 calls give what they should.
    >>> check_calls(lambda a: 2 * a, [((3,), 9)], hint="Try a * a.")
    Traceback (most recent call last):
    stvgkit.exercises.Wrong: Not yet: <lambda>(3) gives 6, but should give 9. Try a * a.
    """
    calls = list(calls)
    results = [_call(attempt, args) for args, _ in calls]
    if all(_is_gap(result) for result in results):
        raise Unsolved(_UNSOLVED)
    for (args, expected), result in zip(calls, results, strict=True):
        if not _same(result, expected, tolerance):
            text = f"{_shown(attempt, args)} gives {_short(result)}, but should give "
            raise Wrong(_sentence(text + _short(expected), hint))
    print(f"Right: {len(calls)} of {len(calls)} calls give what they should.")


def check_value(attempt: Any, expected: Any, hint: str = "", tolerance: float = 1e-6) -> None:
    """Compare a value with the right one, which the sentence does not give away.

    >>> check_value(3.0, 3)
    Right: 3.0.
    >>> check_value(..., 3)
    Traceback (most recent call last):
    stvgkit.exercises.Unsolved: Not solved yet: write your code in place of the three dots.
    """
    if _is_gap(attempt):
        raise Unsolved(_UNSOLVED)
    if not _same(attempt, expected, tolerance):
        raise Wrong(_sentence(f"{_short(attempt)} is not it", hint))
    print(f"Right: {_short(attempt)}.")


def check_claims(attempt: Any, claims: Mapping[str, Callable[[Any], bool]], hint: str = "") -> None:
    """Test each claim about `attempt`, a value or a function; the first that fails is named.

    >>> check_claims([2, 4], {"it has two numbers": lambda x: len(x) == 2})
    Right: it has two numbers.
    """
    if _is_gap(attempt):
        raise Unsolved(_UNSOLVED)
    subject = _watched(attempt) if callable(attempt) else attempt
    for claim, test in claims.items():
        try:
            holds = test(subject)
        except _Sentence:
            raise
        except Exception as error:
            raise Wrong(_sentence(f'"{claim}" cannot be tested: {_named(error)}', hint)) from error
        if not holds:
            raise Wrong(_sentence(f'this does not hold: "{claim}"', hint))
    print(f"Right: {'; '.join(claims)}.")


def check_choices(attempt: Mapping[str, Any], expected: Mapping[str, str], hint: str = "") -> None:
    """Compare one choice for each name; the sentence counts the right ones and names none.

    >>> check_choices({"A": "late", "B": "space"}, {"A": "late", "B": "space"})
    Right: all 2 choices.
    >>> check_choices({"A": "space", "B": "space"}, {"A": "late", "B": "space"}, "Look again.")
    Traceback (most recent call last):
    stvgkit.exercises.Wrong: Not yet: 1 of 2 choices are right. Look again.
    """
    if _is_gap(attempt) or (isinstance(attempt, Mapping) and all(map(_is_gap, attempt.values()))):
        raise Unsolved(_UNSOLVED)
    if not isinstance(attempt, Mapping) or set(attempt) != set(expected):
        names = ", ".join(map(repr, expected))
        raise Wrong(_sentence(f"give a dictionary with one choice for each of {names}", hint))
    right = sum(attempt[name] == choice for name, choice in expected.items())
    if right < len(expected):
        raise Wrong(_sentence(f"{right} of {len(expected)} choices are right", hint))
    print(f"Right: all {right} choices.")


_UNSOLVED = "Not solved yet: write your code in place of the three dots."


def _is_gap(value: Any) -> bool:
    """What an untouched exercise holds: `x = ...`, or a function whose body is `...`."""
    return value is None or value is ...


def _call(attempt: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if _is_gap(attempt):
        return attempt
    try:
        return attempt(*args)
    except _Sentence:
        raise
    except Exception as error:
        raise Wrong(_sentence(f"{_shown(attempt, args)} raises {_named(error)}", "")) from error


def _watched(attempt: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        result = attempt(*args, **kwargs)
        if _is_gap(result):
            raise Unsolved(_UNSOLVED)
        return result

    return call


def _same(got: Any, expected: Any, tolerance: float) -> bool:
    if got is None or expected is None:
        return got is expected
    try:
        numbers, wanted = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
    except (TypeError, ValueError):
        return type(got) is type(expected) and bool(got == expected)
    return numbers.shape == wanted.shape and np.allclose(numbers, wanted, rtol=0, atol=tolerance)


def _shown(attempt: Callable[..., Any], args: tuple[Any, ...]) -> str:
    return f"{getattr(attempt, '__name__', 'it')}({', '.join(map(_short, args))})"


def _short(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    text = repr(round(value, 4) if isinstance(value, float) else value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _sentence(text: str, hint: str) -> str:
    return f"Not yet: {text}." + (f" {hint}" if hint else "")
