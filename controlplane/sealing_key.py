"""What a key for `sealing` is made of, apart from it so that the command line, which makes keys, starts quickly."""

import base64
import secrets


def new_key() -> str:
    """32 random bytes in url-safe base64: Fernet's key, of which half signs and half encrypts."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
