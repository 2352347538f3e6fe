from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from controlplane.errors import Invalid
from controlplane.schemas import Body, Out, UtcTime, decode_cursor, decode_int_cursor, encode_cursor


class Wish(Body):
    knob: int


class At(Out):
    at: UtcTime


def test_a_field_that_we_do_not_know_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Wish.model_validate({"knob": 1, "colour": 2})


def test_times_are_rfc_3339_in_utc() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert At(at=noon).model_dump_json() == '{"at":"2026-03-01T10:00:00.000Z"}'


def test_cursors_come_back_as_they_went() -> None:
    assert decode_cursor(encode_cursor("2026|é|x")) == "2026|é|x"
    assert decode_int_cursor(encode_cursor(42)) == 42
    assert decode_int_cursor(None) is None


@pytest.mark.parametrize("cursor", ["**", "a", encode_cursor("x"), encode_cursor("-1"), encode_cursor("9" * 40), "é"])
def test_a_cursor_that_is_not_ours_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid, match="next_cursor"):
        decode_int_cursor(cursor)
