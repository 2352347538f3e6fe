"""What the command says when it cannot go on: one text that names the cause and the way out, and an exit code."""


class CommandError(Exception):
    """The work failed; exit code 1."""

    exit_code = 1


class UsageError(CommandError):
    """The input is wrong, and the same input fails again; exit code 2."""

    exit_code = 2
