"""Recordings of a node, for admins: the browser cannot reach nodes, and should not know their tokens."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine

from controlplane.accounts.dependencies import Admin, require
from controlplane.accounts.roles import Role
from controlplane.db import session_scope
from controlplane.dependencies import DatabaseEngine, Now
from controlplane.errors import NotFound
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.fleets import service
from controlplane.fleets.node_profiles import NodeProfiles
from controlplane.problem import declared
from controlplane.schemas import Page
from inference_node.contract.profiling import ProfileKind, ProfileRecording, ProfileRequest

# What a node makes its numbers of; anything else would be a path on the node.
RecordingId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$")]
_MEDIA = {ProfileKind.CPU: "application/json", ProfileKind.TORCH: "application/gzip"}

router = APIRouter(prefix="/nodes/{node_id}/profiles", tags=["profiling"], dependencies=[require(Role.ADMIN)])


@router.post("", status_code=202, responses=declared(401, 403, 404, 409, 422, 503))
def start_profile(node_id: str, body: ProfileRequest, who: Admin, engine: DatabaseEngine, now: Now) -> ProfileRecording:
    """Let a node record where its processor time goes (cpu) or what its steps are made of (torch).

    One at a time on a node, 409 otherwise. A torch trace slows the node's steps down while it lasts, and ends after 200 of them.
    """
    recording = _profiles(engine, node_id).start(body)
    _tell(engine, node_id, recording, who.name, now)
    return recording


@router.get("", responses=declared(401, 403, 404, 503))
def list_profiles(node_id: str, engine: DatabaseEngine) -> Page[ProfileRecording]:
    """The node's recordings of the last hour, newest first."""
    return Page(items=list(_profiles(engine, node_id).recordings().items))


@router.get("/{recording_id}", responses=declared(401, 403, 404, 422, 503))
def get_profile(node_id: str, recording_id: RecordingId, engine: DatabaseEngine) -> ProfileRecording:
    """How a recording stands."""
    return _profiles(engine, node_id).get(recording_id)


@router.delete("/{recording_id}", status_code=204, responses=declared(401, 403, 404, 422, 503))
def delete_profile(node_id: str, recording_id: RecordingId, engine: DatabaseEngine) -> None:
    """Stop a recording, or clear it away."""
    _profiles(engine, node_id).delete(recording_id)


@router.get(
    "/{recording_id}/file",
    response_class=StreamingResponse,
    responses=declared(401, 403, 404, 409, 422, 503)
    | {
        200: {
            "content": {media: {} for media in _MEDIA.values()},
            "description": "cpu: speedscope's JSON; torch: a trace",
        }
    },
)
def fetch_profile(node_id: str, recording_id: RecordingId, engine: DatabaseEngine) -> StreamingResponse:
    """The file of a finished recording: cpu opens at speedscope.app, torch at ui.perfetto.dev. 409 while it is under way."""
    profiles = _profiles(engine, node_id)
    recording = profiles.get(recording_id)
    held = ExitStack()
    pieces = held.enter_context(profiles.file(recording_id))
    suffix = "speedscope.json" if recording.kind is ProfileKind.CPU else "trace.json.gz"
    return StreamingResponse(
        _closing(pieces, held),
        media_type=_MEDIA[recording.kind],
        headers={
            "Content-Disposition": f'attachment; filename="profile-{recording_id}.{suffix}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def _closing(pieces: Iterator[bytes], held: ExitStack) -> Iterator[bytes]:
    with held:
        yield from pieces


def _profiles(engine: Engine, node_id: str) -> NodeProfiles:
    """Read and let go: no transaction stays open while the node is asked."""
    with session_scope(engine, read_only=True) as session:
        node = service.get_node(session, node_id)
        if not node.is_there:
            raise NotFound(f"node {node.name!r} was removed from its pool, and its recordings with it")
        return NodeProfiles(node.url, node.admin_token)


def _tell(engine: Engine, node_id: str, recording: ProfileRecording, actor: str, now: datetime) -> None:
    with session_scope(engine) as session:
        node = service.get_node(session, node_id)
        events.record(
            session,
            kind=EventKind.NODE_PROFILED,
            message=f"{actor} records {recording.seconds:g} s of {node.name} ({recording.kind.value})",
            at=now,
            actor=actor,
            pool_id=node.pool_id,
            node_id=node.id,
            data={"recording_id": recording.id, "kind": recording.kind.value, "seconds": recording.seconds},
        )
