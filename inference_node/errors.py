"""The families of a node's errors. Features subclass a family; only the server turns families into HTTP statuses."""


class NodeError(Exception):
    """Root of all errors that a node raises on purpose. The text names the cause and the way out, for a person to read."""


class NotFound(NodeError):
    """What was named does not exist."""


class Conflict(NodeError):
    """The wish clashes with what is in force or under way."""


class Invalid(NodeError):
    """The input is wrong; the same input fails again."""


class Unavailable(NodeError):
    """Not now; trying again later may help."""
