"""What can go wrong between a program and the control plane."""

from typing import Any


class ClientError(Exception):
    """The root: every call of the client raises this or nothing."""


class Unreachable(ClientError):
    """No answer: nobody listens there, the line broke, or time ran out. `timed_out` tells the last apart."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class BadAddress(ClientError):
    """The address is no URL that can be asked."""


class NotTrimtab(ClientError):
    """Something answered, but not as Trimtab does."""


class WaitTimeout(ClientError):
    """What was waited for has not come in time; it may still come."""


class ApiError(ClientError):
    """The API refused. `status` is HTTP's, `problem` the problem document (RFC 9457), empty when there was none."""

    def __init__(self, text: str, status: int, problem: dict[str, Any]) -> None:
        super().__init__(text)
        self.status, self.problem = status, problem

    @property
    def kind(self) -> str:
        """The stable last part of the problem's type, as `pool-frozen`; empty when there is none."""
        return str(self.problem.get("type", "")).rpartition(":")[2]

    @property
    def trace_id(self) -> str | None:
        """Finds the request in the control plane's log."""
        found = self.problem.get("trace_id")
        return None if found is None else str(found)
