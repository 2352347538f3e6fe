"""Changes as asked over the admin API, and the step since which they hold."""

import httpx2
import pytest

from inference_node.bench.admin import AdminClient, NodeUnreachable
from inference_node.bench.changes import Change
from inference_node.errors import Invalid

INT8 = Change("precision bf16 to int8", "precision", "int8")


class Node:
    """Answers from a list, one a question."""

    def __init__(self, *answers: tuple[int, dict[str, object]]) -> None:
        self.answers = list(answers)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        status, document = self.answers.pop(0)
        return httpx2.Response(status, json=document)

    def client(self) -> AdminClient:
        return AdminClient("http://node", "t", httpx2.MockTransport(self))


def shown(precision: str, applied_step: int) -> tuple[int, dict[str, object]]:
    return 200, {"settings": {"precision": precision}, "applied_step": applied_step}


class TestChange:
    async def test_applied_at_once(self) -> None:
        async with Node((200, {"asked_step": 7, "applied_step": 8})).client() as admin:
            assert (await admin.change(INT8)).steps == 1

    async def test_settings_that_lead_their_step_are_waited_for(self) -> None:
        """Else the step of the change before is taken: a preparation of seconds would seem to need less than no step."""
        node = Node(
            (202, {"asked_step": 70, "applied_step": None}), shown("bf16", 56), shown("int8", 56), shown("int8", 190)
        )
        async with node.client() as admin:
            assert (await admin.change(INT8)).steps == 120
        assert node.answers == []

    async def test_a_refusal_is_an_outcome(self) -> None:
        async with Node((409, {"code": "out_of_memory", "message": "needs 1 GB more"})).client() as admin:
            outcome = await admin.change(INT8)
        assert (outcome.refusal, outcome.steps) == ("needs 1 GB more", None)

    async def test_so_is_one_that_comes_while_it_is_prepared(self) -> None:
        refused = {"settings": {"precision": "bf16"}, "applied_step": 56, "edit_refused": "quality: too far from full"}
        node = Node((202, {"asked_step": 70, "applied_step": None}), shown("bf16", 56), (200, refused))
        async with node.client() as admin:
            outcome = await admin.change(INT8)
        assert (outcome.refusal, outcome.steps) == ("quality: too far from full", None)


class TestSettings:
    async def test_a_wrong_token_says_where_the_right_one_lies(self) -> None:
        async with Node((401, {})).client() as admin:
            with pytest.raises(Invalid, match="admin_token"):
                await admin.settings()

    async def test_another_server_is_told_apart(self) -> None:
        async with Node((404, {})).client() as admin:
            with pytest.raises(NodeUnreachable, match="404"):
                await admin.settings()
