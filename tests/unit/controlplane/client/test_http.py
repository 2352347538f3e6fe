"""What the client sends again, and what it never does."""

from collections.abc import Callable

import httpx2
import pytest

from controlplane.client import ApiError, Client, Unreachable, WaitTimeout
from controlplane.client.http import TRIES

Answer = Callable[[httpx2.Request], httpx2.Response]


class Server:
    """Gives the answers in turn, the last for ever; an exception is raised as the line would."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers, self.seen = list(answers), list[httpx2.Request]()
        self.pauses: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A response is used up by who reads it.
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self) -> Client:
        transport = httpx2.MockTransport(self)
        return Client("http://trimtab.test", "tt_x", transport=transport, sleep=self.pauses.append)

    def keys(self) -> list[str | None]:
        return [request.headers.get("Idempotency-Key") for request in self.seen]


OK = httpx2.Response(200, json={"items": []})
LOST = httpx2.ReadError("connection reset")
LATE = httpx2.ReadTimeout("too slow")
BUSY = httpx2.Response(503, headers={"Retry-After": "3"}, json={"detail": "the database does not answer"})


class TestChanges:
    def test_a_change_whose_answer_was_lost_is_sent_again_under_its_key(self) -> None:
        server = Server(LOST, LATE, httpx2.Response(201, json={"reason": "audit"}))
        server.client().freeze("p", "audit")
        assert len(server.seen) == 3
        assert len(set(server.keys())) == 1
        assert server.keys()[0] is not None

    def test_two_changes_have_two_keys(self) -> None:
        server = Server(OK)
        server.client().release_node("n")
        server.client().release_node("n")
        assert len(set(server.keys())) == 2

    def test_a_token_is_never_made_twice(self) -> None:
        server = Server(LOST, OK)
        with pytest.raises(Unreachable):
            server.client().create_token("ci", "viewer")
        assert server.keys() == [None]

    def test_what_is_refused_is_not_sent_again(self) -> None:
        server = Server(httpx2.Response(409, json={"type": "urn:trimtab:problem:pool-frozen", "detail": "frozen"}))
        with pytest.raises(ApiError, match="frozen") as caught:
            server.client().create_rollout("p", {"max_batch_size": 4}, "why")
        assert (len(server.seen), caught.value.kind) == (1, "pool-frozen")


class TestPatience:
    def test_the_server_says_how_long(self) -> None:
        server = Server(BUSY, OK)
        assert server.client().pools() == []
        assert server.pauses == [3.0]

    def test_it_ends(self) -> None:
        server = Server(BUSY)
        with pytest.raises(ApiError, match="database"):
            server.client().pools()
        assert len(server.seen) == TRIES

    def test_a_reader_has_waited_long_enough_once(self) -> None:
        server = Server(LATE, OK)
        with pytest.raises(Unreachable) as caught:
            server.client().pools()
        assert caught.value.timed_out

    def test_nobody_there_is_told_at_once(self) -> None:
        server = Server(httpx2.ConnectError("refused"), OK)
        with pytest.raises(Unreachable):
            server.client().freeze("p", "audit")
        assert server.pauses == []

    def test_pauses_grow(self) -> None:
        server = Server(LOST)
        with pytest.raises(Unreachable):
            server.client().pools()
        assert len(server.pauses) == TRIES - 1
        assert 0.125 <= server.pauses[0] <= 0.25
        assert 0.5 <= server.pauses[2] <= 1.0

    def test_waiting_for_a_rollout_ends_at_its_limit(self) -> None:
        server = Server(httpx2.Response(200, json={"ended_at": None, "phase": "CANARY"}))
        with pytest.raises(WaitTimeout, match="CANARY after 0 s"):
            server.client().wait_for_rollout("r", timeout_s=0)


class TestLists:
    def test_pages_are_followed_no_further_than_asked(self) -> None:
        server = Server(
            httpx2.Response(200, json={"items": [1, 2], "next_cursor": "two"}),
            httpx2.Response(200, json={"items": [3, 4], "next_cursor": "four"}),
        )
        assert server.client().items("/decisions", limit=3) == [1, 2, 3]
        assert [request.url.params.get("cursor") for request in server.seen] == [None, "two"]


class TestFollowing:
    def test_a_lost_stream_goes_on_after_the_last_event(self) -> None:
        first = (
            b': connected\nretry: 2000\n\nid: 7\nevent: pool.frozen\ndata: {"id":\ndata: 7}\n\nevent: tick\ndata: x\n\n'
        )
        server = Server(
            httpx2.Response(200, content=first), LOST, httpx2.Response(200, content=b"id: 8\nevent: e\ndata: {}\n\n")
        )
        stream = server.client().follow(last_event_id=6)
        seen = [next(stream) for _ in range(3)]
        assert [(event.kind, event.id, event.data) for event in seen] == [
            ("pool.frozen", 7, {"id": 7}),
            ("tick", None, {"text": "x"}),
            ("e", 8, {}),
        ]
        assert [request.headers.get("Last-Event-ID") for request in server.seen] == ["6", "7", "7"]

    def test_a_refusal_ends_it(self) -> None:
        server = Server(httpx2.Response(403, json={"detail": "not yours"}))
        with pytest.raises(ApiError, match="not yours"):
            next(server.client().follow())
