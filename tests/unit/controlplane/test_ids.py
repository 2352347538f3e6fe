from uuid import UUID

from controlplane.ids import new_id


def test_ids_are_uuid_version_7() -> None:
    value = UUID(new_id())
    assert (value.version, value.variant) == (7, "specified in RFC 4122")


def test_ids_are_unique_and_sort_by_time() -> None:
    made = [new_id() for _ in range(2000)]
    assert len(set(made)) == len(made)
    milliseconds = [UUID(i).int >> 80 for i in made]
    assert milliseconds == sorted(milliseconds)
