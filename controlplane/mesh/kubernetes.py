"""The control plane's hand at a Kubernetes API: server-side apply of a route, labels for pods. No database in here.

Source: Kubernetes, "Server-Side Apply" and "API Concepts" (resource versions, field validation). The object carries the
generation of what it says; it is read first and written under its resource version, so that an older writer gets nowhere.
"""

import ssl
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from controlplane.errors import ControlPlaneError, Unavailable
from controlplane.mesh.manifests import GENERATION, Manifest
from controlplane.settings import ControlPlaneSettings

FIELD_MANAGER = "trimtab"
CONNECT_S = 2.0
_APPLY = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
_PLURALS = {"VirtualService": "virtualservices", "HTTPRoute": "httproutes", "Pod": "pods"}


class KubernetesUnavailable(Unavailable):
    """No answer, or one that says nothing of the request: the same again may go through."""

    title = "Kubernetes API does not answer"


class KubernetesSilent(KubernetesUnavailable):
    """Nobody answered at all, and asking took its time."""


class KubernetesRefused(ControlPlaneError):
    """The API said no, and why. Something must be changed there, or in the policy."""

    title = "Kubernetes API refused"


class Overtaken(ControlPlaneError):
    """The object says something newer. `generation` is that of what it says."""

    title = "The route says something newer"

    def __init__(self, generation: int) -> None:
        super().__init__(f"the route is at generation {generation} already")
        self.generation = generation


class Kubernetes:
    """One API server. Raises KubernetesUnavailable or KubernetesRefused. Not for use by several threads at once."""

    def __init__(self, url: str, *, token: str | None, ca_file: Path | None, timeout_s: float) -> None:
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        patience = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        # trust_env: a proxy of the environment is for the world outside, the cluster is ours.
        self._http = httpx2.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=patience, trust_env=False, follow_redirects=False,
            verify=_trust(ca_file),
        )  # fmt: skip

    @classmethod
    def of(cls, settings: ControlPlaneSettings) -> Self:
        """The one that is configured. Token and authority are read anew each time: a service account's token changes hourly."""
        if settings.kubernetes_url is None:
            raise KubernetesUnavailable("no Kubernetes API is configured: set CONTROLPLANE_KUBERNETES_URL")
        ca_file = settings.kubernetes_ca_file if settings.kubernetes_ca_file.is_file() else None
        timeout_s = settings.push_timeout_s
        return cls(settings.kubernetes_url, token=_token(settings), ca_file=ca_file, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def apply(self, manifest: Manifest) -> None:
        """Makes the object as the manifest says, or makes it. Safe to repeat.

        Raises Overtaken when the object carries a later generation, or was written by another between the look and the write.
        """
        path, ours = _path(manifest), int(manifest["metadata"]["annotations"][GENERATION])
        seen = self._ask("GET", path)
        if seen.status_code == HTTPStatus.OK:
            metadata = _document(seen).get("metadata", {})
            found = _generation(metadata)
            if found > ours:
                raise Overtaken(found)
            version = {"resourceVersion": metadata.get("resourceVersion")}
            manifest = {**manifest, "metadata": manifest["metadata"] | version}
        elif seen.status_code != HTTPStatus.NOT_FOUND:
            raise _refused(seen, "reading", manifest)
        # JSON is YAML, which the content type asks for.
        headers = {"Content-Type": "application/apply-patch+yaml"}
        answer = self._ask("PATCH", path, params=_APPLY, json=manifest, headers=headers)
        if answer.status_code == HTTPStatus.CONFLICT:
            raise KubernetesUnavailable(f"{_name(manifest)} was written by another just now: trying again")
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            raise _refused(answer, "applying", manifest)

    def label(self, pod: Manifest) -> bool:
        """Puts the manifest's labels on the pod, which must be there already: False when it is not."""
        body = {"metadata": {"labels": pod["metadata"]["labels"]}}
        headers = {"Content-Type": "application/merge-patch+json"}
        params = {"fieldManager": FIELD_MANAGER}
        answer = self._ask("PATCH", _path(pod), params=params, json=body, headers=headers)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return False
        if answer.status_code != HTTPStatus.OK:
            raise _refused(answer, "labelling", pod)
        return True

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, **options)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # the last two: an address that is none
            where = str(self._http.base_url)
            raise KubernetesSilent(
                f"the Kubernetes API at {where} does not answer: {error or type(error).__name__}"
            ) from None
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise KubernetesUnavailable(f"the Kubernetes API answered {answer.status_code}: {_message(answer)}")
        return answer


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise KubernetesUnavailable(f"{ca_file} cannot be read as certificates (PEM): {error}") from None


def _token(settings: ControlPlaneSettings) -> str | None:
    if settings.kubernetes_token is not None:
        return settings.kubernetes_token.get_secret_value()
    try:
        return settings.kubernetes_token_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KubernetesUnavailable(f"{settings.kubernetes_token_file} cannot be read as a token: {error}") from None


def _path(manifest: Manifest) -> str:
    version, kind = manifest["apiVersion"], manifest["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    metadata = manifest["metadata"]
    return f"{root}/namespaces/{metadata['namespace']}/{_PLURALS[kind]}/{metadata['name']}"


def _name(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata['namespace']}/{metadata['name']}"


def _generation(metadata: dict[str, Any]) -> int:
    text = (metadata.get("annotations") or {}).get(GENERATION, "")
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else 0


def _document(answer: httpx2.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise KubernetesUnavailable("the address answers with something that no Kubernetes API says")
    return found


def _message(answer: httpx2.Response) -> str:
    """Of the API's Status object, or the beginning of whatever came."""
    try:
        message = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.text
    return str(message)[:300]


def _refused(answer: httpx2.Response, doing: str, manifest: Manifest) -> KubernetesRefused:
    plural, group = _PLURALS[manifest["kind"]], manifest["apiVersion"].rpartition("/")[0]
    verbs = "patch" if manifest["kind"] == "Pod" else "get, create and patch"
    where = f"namespace {manifest['metadata']['namespace']}"
    hints = {
        HTTPStatus.UNAUTHORIZED: "the token is not accepted: see CONTROLPLANE_KUBERNETES_TOKEN and _TOKEN_FILE",
        HTTPStatus.FORBIDDEN: f"allow the account to {verbs} {f'{plural}.{group}'.rstrip('.')} in {where}",
        HTTPStatus.NOT_FOUND: f"is {manifest['apiVersion']} installed, and is there a {where}?",
    }
    hint = hints.get(HTTPStatus(answer.status_code), "")
    text = f"{doing} {_name(manifest)} was refused ({answer.status_code}): {_message(answer)}"
    return KubernetesRefused(f"{text} ({hint})" if hint else text)
