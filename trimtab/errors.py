"""What the command says when it cannot go on: one text that names the cause and the way out, and an exit code."""


class CommandError(Exception):
    """The work failed; exit code 1."""

    exit_code = 1


class OutOfTime(CommandError):
    """What was waited for has not come in time, and may still come; exit code 3."""

    exit_code = 3


class UsageError(CommandError):
    """The input is wrong, and the same input fails again; exit code 2."""

    exit_code = 2
