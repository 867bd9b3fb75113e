"""The beginning of an answer: complete, with the present date, and never two headers out of one."""

from __future__ import annotations

import pytest

from slipway_common.web.heads import Head


def test_head_is_whole_and_ends_with_an_empty_line() -> None:
    head = Head(206, {"Content-Length": "5", "ETag": '"x"'})
    assert head.render(1_000_000_000.7) == (
        b'HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nETag: "x"\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n'
    )
    assert head.status == 206


def test_date_is_that_of_each_moment() -> None:
    head = Head(200, {})
    moments = [1_000_000_000.0, 1_000_000_001.0, 1_000_000_002.9, 1_000_000_000.5]
    assert [head.render(moment)[-10:-8] for moment in moments] == [b"40", b"41", b"42", b"40"]


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\x7f"])
def test_header_that_would_be_two_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="control"):
        Head(200, {"Content-Type": text})
    with pytest.raises(ValueError, match="control"):
        Head(200, {text: "x"})


def test_header_may_have_any_other_character() -> None:
    assert "Content-Type: a/\tö€\r\n".encode() in Head(200, {"Content-Type": "a/\tö€"}).render(0)
