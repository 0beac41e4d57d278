from restore_lib.restore.spans import Span


def test_a_span_counts_what_goes_on_at_once_only_once() -> None:
    span = Span()
    span.begin(1.0)
    span.begin(2.0)
    span.end(3.0)
    assert span.seconds == 0
    span.end(5.0)
    span.begin(10.0)
    span.end(11.0)
    assert (span.seconds, span.ends) == (5.0, 11.0)
