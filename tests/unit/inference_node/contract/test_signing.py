"""Signed documents: what is changed on the way, or signed by another, is told apart."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_node.contract.messages import SettingsPush
from inference_node.contract.settings import EngineSettings, KnobBounds, Precision
from inference_node.contract.signing import is_signed, signed
from tests.support.fake_controlplane import push_of

TOKEN = "tn_of-this-node-alone"
PUSH = push_of(EngineSettings(), 4, lease_s=60, fallback=EngineSettings(max_batch_size=4)).model_copy(
    update={"bounds": {"max_batch_size": KnobBounds(min=1, max=64)}}
)
CHANGES: dict[str, Any] = {
    "node_id": "another",
    "generation": 5,
    "epoch": 2,
    "revision": 9,
    "config_hash": "0" * 16,
    "settings": EngineSettings(precision=Precision.INT8),
    "bounds": {"max_batch_size": KnobBounds(min=1, max=65)},
    "force": True,
    "lease_s": 61.0,
    "fallback": EngineSettings(max_batch_size=5),
    "issued_at": PUSH.issued_at + timedelta(microseconds=1),
}


def test_it_survives_the_wire() -> None:
    arrived = SettingsPush.model_validate_json(signed(PUSH, TOKEN).model_dump_json())
    assert is_signed(arrived, TOKEN)


def test_a_field_of_a_newer_control_plane_is_no_forgery() -> None:
    document = json.loads(signed(PUSH, TOKEN).model_dump_json()) | {"invented_later": 1}
    assert is_signed(SettingsPush.model_validate(document), TOKEN)


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_field_is_found(field: str) -> None:
    assert not is_signed(signed(PUSH, TOKEN).model_copy(update={field: CHANGES[field]}), TOKEN)


def test_every_field_but_the_signature_is_covered() -> None:
    assert set(CHANGES) == set(SettingsPush.model_fields) - {"signature"}


@given(st.text(max_size=80))
def test_nothing_else_passes_for_a_signature(text: str) -> None:
    assert not is_signed(PUSH.model_copy(update={"signature": text}), TOKEN)


def test_another_token_and_none_at_all_do_not_pass() -> None:
    assert not is_signed(signed(PUSH, "tn_of-another-node"), TOKEN)
    assert not is_signed(PUSH, TOKEN)


def test_one_of_several_is_enough() -> None:
    by_us, by_others = signed(PUSH, TOKEN).signature, signed(PUSH, "tn_of-another-node").signature
    assert is_signed(PUSH.model_copy(update={"signature": f"{by_others} {by_us}"}), TOKEN)
