"""The families of errors. Features subclass a family; only `app.py` turns families into HTTP statuses."""

from typing import Any


class ControlPlaneError(Exception):
    """Root of all errors that the control plane raises on purpose.

    `title` is the same for each occurrence, `detail` is for this one and says what to do, `extra` ends up in problem+json.
    """

    title = "Control plane error"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class NotFound(ControlPlaneError):
    title = "Not found"


class Conflict(ControlPlaneError):
    title = "Conflict"


class Invalid(ControlPlaneError):
    title = "Invalid"


class Unauthorized(ControlPlaneError):
    title = "Not signed in"


class Forbidden(ControlPlaneError):
    title = "Forbidden"


class Unavailable(ControlPlaneError):
    """Something that we depend on does not answer; trying again later may help."""

    title = "Unavailable"


class TooMany(Unavailable):
    """The caller asks too often; `retry_after_s` among the extras says when to come back."""

    title = "Too many requests"


class PreconditionMissing(Invalid):
    """A change must say which version it is based on (`If-Match`)."""

    title = "Precondition required"


class Stale(Conflict):
    """The version that the change is based on (`If-Match`) is no longer the latest."""

    title = "Changed in the meantime"


class Fenced(Conflict):
    """This controller no longer leads: nothing was written."""

    title = "Deposed"
