"""`--wait`: until a rollout has ended, with an exit code that tells how."""

from typing import Annotated

import typer

from controlplane.client.types import RolloutOut
from trimtab.errors import CommandError

Wait = Annotated[bool, typer.Option("--wait", help="Until it has ended; fails if it ends otherwise than asked for.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Of --wait, in seconds; then exit code 3.", min=1)]

DONE = ("COMPLETED",)
BACK = ("ROLLED_BACK", "CANCELLED")


def check_end(rollout: RolloutOut, waited: bool, wanted: tuple[str, ...]) -> None:
    """Raises CommandError when it was waited for and ended otherwise."""
    if waited and rollout["phase"] not in wanted:
        raise CommandError(f"the rollout ended as {rollout['phase']}: {rollout['outcome'] or rollout['reason']}")
