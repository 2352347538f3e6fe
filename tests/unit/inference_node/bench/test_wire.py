"""Requests as written, answers as read, with the time of each byte."""

import pytest

from inference_node.bench.wire import Address, AnswerMalformed
from inference_node.errors import Invalid
from tests.support.answers import HEAD, chunked, events, plain, recording


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "host", "port", "base"),
        [
            ("http://127.0.0.1:8701/", "127.0.0.1", 8701, ""),
            ("http://node/prefix/", "node", 80, "/prefix"),
            ("https://node", "node", 443, ""),
        ],
    )
    def test_reads_a_url(self, url: str, host: str, port: int, base: str) -> None:
        address = Address.of(url)
        assert (address.host, address.port, address.base) == (host, port, base)
        assert (address.tls is not None) == url.startswith("https")

    @pytest.mark.parametrize("url", ["127.0.0.1:8701", "ftp://node", "http://", "http://node:x"])
    def test_refuses_what_is_none(self, url: str) -> None:
        with pytest.raises(Invalid, match=r"http://127\.0\.0\.1:8701"):
            Address.of(url)

    def test_a_request_asks_for_the_connections_end(self) -> None:
        head, _, body = Address.of("http://n:1/b").post("/v1/completions", b"{}").partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /b/v1/completions HTTP/1.1" and body == b"{}"
        assert {b"Host: n:1", b"Content-Length: 2", b"Connection: close"} <= set(lines)


class TestAnswer:
    def test_an_event_arrives_with_its_last_byte(self) -> None:
        raw = plain(b"data: 1\n\ndata: 2\n\ndata: 3\n\n")
        place = raw.index(b"2\n")
        heard = list(recording(raw, [place, place + 1]).answer().events())
        # "data: " of the second is in the first piece, its 2 in the second, and its line ends with the third.
        assert heard == [(1.0, b"1"), (2.0, b"2"), (3.0, b"3")]

    def test_chunks_are_no_part_of_the_body(self) -> None:
        body = events(["a", "b"])
        answer = recording(chunked(body, [3, 1, 20])).answer()
        assert (answer.status, answer.body) == (200, body)

    def test_a_body_that_stops_short_is_read_as_far_as_it_goes(self) -> None:
        raw = chunked(b"data: 1\n\ndata: 2\n\n", [9])
        cut = raw[: raw.index(b"data: 2") + 5]
        assert [data for _, data in recording(cut).answer().events()] == [b"1", b""]

    @pytest.mark.parametrize(
        "raw",
        [b"", b"SSH-2.0\r\n\r\n", HEAD, b"HTTP/1.1 what\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"],
    )
    def test_refuses_what_is_no_http(self, raw: bytes) -> None:
        with pytest.raises(AnswerMalformed):
            recording(raw).answer()
