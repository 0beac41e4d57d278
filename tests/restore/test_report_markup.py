"""Markup that nothing breaks, and figures as people read them."""

import pytest

from restore_lib.restore.report_markup import count, duration, escaped, joined, number, size, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = tag("b", "1 < 2")
    assert tag("p", inner, " & ", None, 3, class_="a\"'>", data_x=None) == (
        '<p class="a&quot;&#x27;&gt;"><b>1 &lt; 2</b> &amp; 3</p>'
    )
    assert joined("<", inner) == "&lt;<b>1 &lt; 2</b>"
    assert tag("text", x=1, text_anchor="end") == '<text x="1" text-anchor="end"></text>'


def test_what_is_not_printable_shows_as_its_escape() -> None:
    assert escaped("a\nb\x00\u202e\x7fé") == "a\\nb\\x00\\u202e\\x7fé"
    assert escaped("\udcff").isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3659, "1 h"),
        (3660, "1 h 1 min"),
        (86400 * 5 + 7200 + 5, "5 d 2 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (18 * 10**12, "18.0 TB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_sizes_are_decimal(value: float | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0, "0"), (1234567, "1,234,567"), (12.34, "12.3"), (123.4, "123")],
)
def test_numbers_have_their_thousands_apart(value: float | None, text: str) -> None:
    assert number(value) == text


def test_counts_have_a_plural() -> None:
    assert [count(1, "batch"), count(2, "batch"), count(0, "object")] == [
        "1 batch",
        "2 batches",
        "0 objects",
    ]
