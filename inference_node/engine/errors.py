"""What a caller of the engine must be ready for."""

from inference_node.contract.messages import RejectCode
from inference_node.errors import Conflict, Invalid, Unavailable


class QueueFull(Unavailable):
    """As many requests wait as `max_queue` admits. `retry_after_s` is the engine's guess of when there is room."""

    def __init__(self, waiting: int, limit: int, retry_after_s: float) -> None:
        super().__init__(
            f"the queue is full: {waiting} requests wait, at most {limit} may; try again in {retry_after_s:.0f} s"
        )
        self.waiting = waiting
        self.limit = limit
        self.retry_after_s = retry_after_s


class PromptTooLong(Invalid):
    """The prompt leaves no room for a single token of an answer. `limit` and `got` are in tokens."""

    def __init__(self, limit: int, got: int) -> None:
        super().__init__(
            f"the prompt has {got} tokens, this node takes at most {limit} (prompt plus one token of answer)"
        )
        self.limit = limit
        self.got = got


class RequestInvalid(Invalid):
    """A request that no engine could run, say an empty prompt or a token id outside the vocabulary; `param` names the part."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


class EngineStopped(Unavailable):
    """The engine takes no requests: not started yet, draining, or shut down."""


class Superseded(Conflict):
    """A newer `apply` took the place of this one while it was being prepared; nothing of it was applied."""


class SettingsRefused(Invalid):
    """This node cannot run these settings; nothing was changed. `code` and `knob` as in the contract's SettingsReject."""

    def __init__(self, code: RejectCode, knob: str | None, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.knob = knob
        self.message = message
