"""A real HTTPS server that speaks what mesh routes need of the Kubernetes API: get, server-side apply, labels of pods."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.mesh_schemas import problems

TOKEN = "token-of-a-service-account"
_KINDS = {
    "networking.istio.io/v1beta1/virtualservices": "VirtualService",
    "gateway.networking.k8s.io/v1/httproutes": "HTTPRoute",
    "v1/pods": "Pod",
}


@dataclass(slots=True)
class Cluster:
    """What the server holds. `refuse`: plurals that the account may not touch; `faults`: statuses answered next, then none."""

    url: str = ""
    ca_file: Path = Path()
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    faults: list[int] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, path: str, document: dict[str, Any]) -> None:
        """As somebody else would write it."""
        with self.lock:
            version = int(self.objects.get(path, {}).get("metadata", {}).get("resourceVersion", "0")) + 1
            document.setdefault("metadata", {})["resourceVersion"] = str(version)
            self.objects[path] = document

    def add_pod(self, name: str, namespace: str = "default") -> None:
        self.put(f"/api/v1/namespaces/{namespace}/pods/{name}", {"kind": "Pod", "metadata": {"name": name}})

    def arm_of(self, name: str, namespace: str = "default") -> str | None:
        found = self.objects[f"/api/v1/namespaces/{namespace}/pods/{name}"]["metadata"].get("labels", {})
        label: str | None = found.get("trimtab.dev/arm")
        return label

    def weights(self, name: str, namespace: str = "default") -> dict[str, int] | None:
        """Service -> percent, of the route of this name; None when there is none."""
        for path, document in self.objects.items():
            if path.endswith(f"/namespaces/{namespace}/virtualservices/{name}"):
                return {r["destination"]["host"]: r["weight"] for r in document["spec"]["http"][0]["route"]}
            if path.endswith(f"/namespaces/{namespace}/httproutes/{name}"):
                return {b["name"]: b["weight"] for b in document["spec"]["rules"][0]["backendRefs"]}
        return None


@contextmanager
def kubernetes_api(folder: Path) -> Iterator[Cluster]:
    """folder: for its certificates. Stops when left."""
    cluster = Cluster(ca_file=folder / "ca.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cluster))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    cluster.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """One that signs for itself, so that it is its own authority."""
    certificate, key = folder / "ca.crt", folder / "tls.key"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, key


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with cluster.lock:
                path = self._path()
                if path is not None:
                    found = cluster.objects.get(path)
                    self._say(200, found) if found else self._status(404, "not found")

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with cluster.lock:
                path = self._path()
                if path is None:
                    return
                if self.headers["Content-Type"] == "application/apply-patch+yaml":
                    self._apply(path, body)
                elif self.headers["Content-Type"] == "application/merge-patch+json":
                    self._merge(path, body)
                else:
                    self._status(415, "unsupported media type")

        def _path(self) -> str | None:
            """Of the object; None when an error was answered already."""
            path = urlsplit(self.path).path
            if cluster.faults:
                self._status(cluster.faults.pop(0), "a fault that was asked for")
                return None
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._status(401, "Unauthorized")
                return None
            resource = self._resource(path)
            if resource not in _KINDS or resource.rpartition("/")[2] in cluster.absent:
                self._status(404, "404 page not found")
                return None
            if resource.rpartition("/")[2] in cluster.refuse:
                self._status(403, "the account cannot do that")
                return None
            return path

        def _resource(self, path: str) -> str:
            """`group/version/plural`"""
            parts = path.strip("/").split("/")
            at = parts.index("namespaces") if "namespaces" in parts else 0
            return "/".join([*parts[1:at], *parts[at + 2 : at + 3]])

        def _apply(self, path: str, body: dict[str, Any]) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if "fieldManager" not in query:
                return self._status(400, "fieldManager is required for apply patch")
            if body["metadata"]["name"] != path.rpartition("/")[2]:
                return self._status(400, "the name of the object does not match the name on the URL")
            wrong = problems({**body, "metadata": {}})
            if wrong and query.get("fieldValidation") == ["Strict"]:
                return self._status(422, "; ".join(wrong))
            present = cluster.objects.get(path)
            wanted = body["metadata"].pop("resourceVersion", None)
            if wanted is not None and (present is None or present["metadata"]["resourceVersion"] != wanted):
                return self._status(409, "the object has been modified")
            cluster.put(path, body)
            cluster.writes.append(path)
            return self._say(201 if present is None else 200, cluster.objects[path])

        def _merge(self, path: str, body: dict[str, Any]) -> None:
            present = cluster.objects.get(path)
            if present is None:
                return self._status(404, "not found")
            present["metadata"].setdefault("labels", {}).update(body["metadata"]["labels"])
            cluster.put(path, present)
            cluster.writes.append(path)
            return self._say(200, present)

        def _status(self, code: int, message: str) -> None:
            self._say(
                code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
            )

        def _say(self, code: int, document: dict[str, Any]) -> None:
            text = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
