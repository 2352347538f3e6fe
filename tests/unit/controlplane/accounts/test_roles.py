import pytest

from controlplane.accounts.roles import Identity, Role


@pytest.mark.parametrize(
    ("has", "needs", "passes"),
    [(has, needs, i >= j) for i, has in enumerate(Role) for j, needs in enumerate(Role)],
)
def test_a_role_includes_those_below_it(has: Role, needs: Role, passes: bool) -> None:
    assert has.includes(needs) is passes


def test_a_role_in_a_pool_only_adds_to_the_one_everywhere() -> None:
    who = Identity("id", "ann", Role.OPERATOR, "bearer", in_pools={"a": Role.APPROVER, "b": Role.VIEWER})
    assert [who.role_in(pool) for pool in ("a", "b", "c", None)] == [
        Role.APPROVER, Role.OPERATOR, Role.OPERATOR, Role.OPERATOR,
    ]  # fmt: skip
