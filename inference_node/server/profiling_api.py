"""Recordings over HTTP: start one, see how it stands, fetch its file. Needs the node's admin token as bearer."""

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse

from inference_node.contract.profiling import ProfileList, ProfileRecording, ProfileRequest
from inference_node.server.admin import admin_only
from inference_node.server.node import Node


def profiling_router(node: Node) -> APIRouter:
    """`/admin/v1/profile` for this node. Works while the node loads and drains, too."""
    router = APIRouter(prefix="/admin/v1/profile", tags=["Profiling"], dependencies=[Depends(admin_only(node))])

    @router.post("", status_code=202)
    def start_recording(request: ProfileRequest, response: Response) -> ProfileRecording:
        """Record where processor time goes (cpu) or what steps are made of (torch), for at most 30 seconds.

        One at a time: 409 while another is under way. A cpu recording costs about one percent of a core; a torch trace
        slows steps down and ends after 200 of them.
        """
        recording = node.recorder.start(request)
        response.headers["location"] = f"/admin/v1/profile/{recording.id}"
        return recording

    @router.get("")
    def list_recordings() -> ProfileList:
        """Recordings of the last hour, newest first."""
        return ProfileList(items=node.recorder.recordings())

    @router.get("/{recording_id}")
    def show_recording(recording_id: str) -> ProfileRecording:
        """How a recording stands."""
        return node.recorder.get(recording_id)

    @router.get("/{recording_id}/file", response_class=FileResponse)
    def fetch_recording(recording_id: str) -> FileResponse:
        """The file of a finished recording: cpu for speedscope.app, torch for ui.perfetto.dev. 409 while it is under way."""
        path = node.recorder.file(recording_id)
        # Of a trace, the packed file is what is fetched; it is not to be unpacked on the way.
        kind = "application/gzip" if path.suffix == ".gz" else "application/json"
        return FileResponse(path, media_type=kind, filename=path.name)

    @router.delete("/{recording_id}", status_code=204)
    def delete_recording(recording_id: str) -> None:
        """Stop a recording, or clear it away."""
        node.recorder.delete(recording_id)

    return router
