"""Who may use the admin API: whoever has the node's admin token."""

import hmac
from collections.abc import Callable

from fastapi import Request

from inference_node.server.node import Node
from inference_node.server.problems import NotAuthorized


def admin_only(node: Node) -> Callable[[Request], None]:
    """A dependency that lets pass who shows the token as bearer. Raises NotAuthorized."""

    def require_admin(request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Compared as bytes: hmac refuses text beyond ASCII.
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), node.admin_token.encode()):
            raise NotAuthorized("this needs the node's admin token as `Authorization: Bearer`")

    return require_admin
