"""A readable page of the API's description, made of /openapi.json by a script of our own: nothing is fetched from elsewhere."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

ASSETS = Path(__file__).resolve().parent / "docs_assets"

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def page() -> FileResponse:
    return FileResponse(ASSETS / "index.html", headers={"cache-control": "no-cache"})


@router.get("/docs/page.js")
def script() -> FileResponse:
    return FileResponse(ASSETS / "page.js", media_type="text/javascript", headers={"cache-control": "no-cache"})


@router.get("/docs/page.css")
def style() -> FileResponse:
    return FileResponse(ASSETS / "page.css", headers={"cache-control": "no-cache"})
