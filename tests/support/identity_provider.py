"""A real OpenID provider on loopback: authlib's own server side, with PKCE, client secrets, nonces, signed tokens and userinfo.

Who is signed in at it is set by the test (`person`), as a browser's session there would be. What it is made to lie about is set
in `lies` (claims of the identity token), `key` and `algorithm`, so that a client's checks meet what they are for.
"""

import base64
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

_KEY = RSAKey.generate_key(2048, auto_kid=True)
CLIENT_ID, CLIENT_SECRET = "trimtab", "cl1ent-secret-for-tests"


@dataclass
class _Client(ClientMixin):  # type: ignore[misc]
    redirect_uri: str

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, CLIENT_SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class _Code(AuthorizationCodeMixin):  # type: ignore[misc]
    code: str
    person: dict[str, Any]
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int | None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@dataclass
class IdentityProvider:
    """`asked`: the parameters of every authorization request; `tokens`: how often its token endpoint was asked."""

    issuer: str
    redirect_uri: str
    person: dict[str, Any] | None = None
    lies: dict[str, Any] = field(default_factory=dict)
    header_lies: dict[str, Any] = field(default_factory=dict)
    metadata_lies: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: _KEY)
    published: RSAKey | None = None
    unsigned: bool = False
    by_secret: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    tokens: int = 0
    codes: dict[str, _Code] = field(default_factory=dict)
    access_tokens: dict[str, dict[str, Any]] = field(default_factory=dict)


def _application(provider: IdentityProvider) -> flask.Flask:
    app = flask.Flask("identity provider")
    server = AuthorizationServer(
        app,
        query_client=lambda client_id: _Client(provider.redirect_uri) if client_id == CLIENT_ID else None,
        save_token=lambda token, request: provider.access_tokens.update({token["access_token"]: request.user}),
    )

    class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def save_authorization_code(self, code: str, request: Any) -> None:
            data = request.payload.data
            provider.codes[code] = _Code(
                code, request.user, request.payload.redirect_uri, request.payload.scope, data.get("nonce"),
                data.get("code_challenge"), data.get("code_challenge_method"),
            )  # fmt: skip

        def query_authorization_code(self, code: str, client: Any) -> _Code | None:
            return provider.codes.get(code)

        def delete_authorization_code(self, authorization_code: _Code) -> None:
            del provider.codes[authorization_code.code]

        def authenticate_user(self, authorization_code: _Code) -> dict[str, Any]:
            return authorization_code.person

    class Identity(OpenIDCode):  # type: ignore[misc]
        def exists_nonce(self, nonce: str, request: Any) -> bool:
            return any(code.nonce == nonce for code in provider.codes.values())

        def encode_id_token(self, token: dict[str, Any], request: Any) -> str:
            now = int(time.time())
            claims = {"iss": provider.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
            claims |= self.get_authorization_code_claims(request.authorization_code) | request.user | provider.lies
            claims = {name: value for name, value in claims.items() if value is not None}
            if provider.unsigned:
                return f"{_part({'alg': 'none'})}.{_part(claims)}."
            if provider.by_secret:
                content = f"{_part({'alg': 'HS256'})}.{_part(claims)}"
                return f"{content}.{_encoded(hmac.digest(CLIENT_SECRET.encode(), content.encode(), 'sha256'))}"
            header = {"alg": "RS256", "kid": provider.key.kid} | provider.header_lies
            return str(jwt.encode(header, claims, provider.key))

    server.register_grant(CodeGrant, [CodeChallenge(required=True), Identity(require_nonce=True)])

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Any:
        return {
            "issuer": provider.issuer,
            "authorization_endpoint": f"{provider.issuer}/authorize",
            "token_endpoint": f"{provider.issuer}/token",
            "jwks_uri": f"{provider.issuer}/jwks",
            "userinfo_endpoint": f"{provider.issuer}/userinfo",
            "end_session_endpoint": f"{provider.issuer}/end",
            "authorization_response_iss_parameter_supported": False,
        } | provider.metadata_lies

    @app.get("/jwks")
    def jwks() -> Any:
        shown = provider.published or provider.key
        return KeySet([shown]).as_dict(private=False)

    @app.get("/authorize")
    def authorize() -> Any:
        provider.asked.append(dict(flask.request.args))
        try:
            grant = server.get_consent_grant(end_user=provider.person)
        except OAuth2Error as error:
            return {"error": error.error, "description": error.description}, 400
        return server.create_authorization_response(grant_user=provider.person, grant=grant)

    @app.post("/token")
    def token() -> Any:
        provider.tokens += 1
        return server.create_token_response()

    @app.get("/userinfo")
    def userinfo() -> Any:
        held = flask.request.headers.get("authorization", "").removeprefix("Bearer ")
        if held not in provider.access_tokens:
            return {"error": "invalid_token"}, 401
        return {"sub": provider.access_tokens[held]["sub"]} | provider.userinfo

    @app.get("/end")
    def end() -> Any:
        provider.person = None
        return flask.redirect(flask.request.args["post_logout_redirect_uri"])

    return app


def _part(document: dict[str, Any]) -> str:
    return _encoded(json.dumps(document).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@contextmanager
def identity_provider(redirect_uri: str) -> Iterator[IdentityProvider]:
    """On a free port; ends when left."""
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback has no TLS
    provider = IdentityProvider("", redirect_uri)
    server = make_server("127.0.0.1", 0, _application(provider), threaded=True)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        del os.environ["AUTHLIB_INSECURE_TRANSPORT"]
