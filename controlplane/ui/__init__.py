"""Serves the admin web app that the wheel's build hook puts into `static/`."""

import secrets
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from controlplane.content_policy import content_policy

STATIC = Path(__file__).resolve().parent / "static"
# Below these the API answers, also when it has nothing there.
_OF_THE_API = ("/api/", "/docs", "/metrics", "/livez", "/readyz", "/openapi.json", "/assets/")

# Stands in the built page where the nonce of its styles belongs.
NONCE_MARK = "{{style-nonce}}"

_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trimtab</title></head><body>
<h1>Trimtab</h1>
<p>The API is running, but the web app has not been built. From the source tree, build it with</p>
<pre>python hatch_build.py</pre>
<p>and load this page again. Meanwhile: <a href="/docs">the API's description</a>, or <code>trimtab status</code>.</p>
</body></html>
"""


class _Files(StaticFiles):
    """Hashed assets may be kept for ever; the page that names them must be asked for each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def mount(app: FastAPI, static: Path = STATIC) -> None:
    """Adds the hashed assets; all other paths of the app come through `page_for`."""
    app.mount("/assets", _Files(directory=static / "assets", check_dir=False), name="assets")


def page_for(request: Request, error: HTTPException, static: Path = STATIC) -> Response | None:
    """What a browser gets where no route is: a file of the app, or its page, which reads the path itself. None: a plain 404."""
    path = request.url.path
    if error.status_code != 404 or request.method not in {"GET", "HEAD"} or path.startswith(_OF_THE_API):
        return None
    file, index = (static / path.lstrip("/")).resolve(), static / "index.html"
    if file not in {static, index} and file.is_file() and file.is_relative_to(static):
        return FileResponse(file, headers={"cache-control": "no-cache"})
    if file not in {static, index} and (
        "." in path.rpartition("/")[2] or "text/html" not in request.headers.get("accept", "")
    ):
        return None
    if not index.is_file():
        return HTMLResponse(_NOT_BUILT, headers={"cache-control": "no-store"})
    return _page(index)


def _page(index: Path) -> Response:
    """The app's page with a nonce of its own for the styles that it makes. Not kept: a nonce is good for one answer."""
    nonce = secrets.token_urlsafe(16)
    headers = {"cache-control": "no-store", "content-security-policy": content_policy(nonce)}
    return HTMLResponse(index.read_text(encoding="utf-8").replace(NONCE_MARK, nonce), headers=headers)
