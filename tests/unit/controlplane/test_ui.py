import re
from pathlib import Path

import pytest
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from controlplane import ui


def ask(
    static: Path, path: str, *, method: str = "GET", accept: str = "text/html", status: int = 404
) -> Response | None:
    headers = [(b"accept", accept.encode())]
    request = Request({"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"",
                       "scheme": "http", "server": ("h", 80)})  # fmt: skip
    return ui.page_for(request, HTTPException(status), static)


@pytest.fixture
def static(tmp_path: Path) -> Path:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "index.html").write_text(f'<meta property="csp-nonce" nonce="{ui.NONCE_MARK}">the app')
    (tmp_path / "static" / "favicon.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("not to be served")
    return tmp_path / "static"


@pytest.mark.parametrize("path", ["/", "/index.html", "/fleet", "/nodes/01a2", "/rollouts/x/y"])
def test_an_address_of_the_app_is_its_page(static: Path, path: str) -> None:
    answer = ask(static, path)
    assert isinstance(answer, HTMLResponse)
    assert bytes(answer.body).endswith(b"the app")
    assert answer.headers["cache-control"] == "no-store"


def test_each_answer_has_a_nonce_of_its_own_in_page_and_policy(static: Path) -> None:
    nonces = set()
    for _ in range(3):
        answer = ask(static, "/")
        assert answer is not None
        (nonce,) = re.findall(r"nonce=\"([^\"]+)\"", bytes(answer.body).decode())
        assert f"style-src 'self' 'nonce-{nonce}';" in answer.headers["content-security-policy"]
        nonces.add(nonce)
    assert len(nonces) == 3
    assert all(len(nonce) >= 22 for nonce in nonces)  # 128 bits


def test_a_file_of_the_app_is_served(static: Path) -> None:
    answer = ask(static, "/favicon.svg", accept="image/*")
    assert isinstance(answer, FileResponse)
    assert Path(answer.path).name == "favicon.svg"


@pytest.mark.parametrize(
    "path", ["/api/v1/nope", "/api/v1/", "/metrics", "/docs/other", "/assets/gone.js", "/gone.js", "/../secret.txt"]
)
def test_everything_else_is_a_404(static: Path, path: str) -> None:
    assert ask(static, path) is None


def test_programs_are_not_given_a_page(static: Path) -> None:
    assert ask(static, "/fleet", accept="application/json") is None
    assert ask(static, "/fleet", method="POST") is None
    assert ask(static, "/fleet", status=405) is None


def test_without_a_built_app_the_page_says_how_to_build_it(tmp_path: Path) -> None:
    answer = ask(tmp_path / "static", "/")
    assert isinstance(answer, HTMLResponse)
    assert b"python hatch_build.py" in bytes(answer.body)
