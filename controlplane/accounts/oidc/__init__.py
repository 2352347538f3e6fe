"""Sign-in at the operator's own identity provider: OpenID Connect Core 1.0, authorization code flow with PKCE."""
