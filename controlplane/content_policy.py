"""What a browser may load and run in our pages (Content Security Policy, level 3): our own files, and nothing inline."""


def content_policy(style_nonce: str | None = None) -> str:
    """The header's text. style_nonce: lets `<style>` elements apply that bear it, fresh for each answer (CSP 3, 7.1).

    The web app's component library makes such elements for its theme. Styles that a script sets on an element (`.style`) need
    no leave; a `style` attribute in HTML gets none.
    """
    style = "'self'" if style_nonce is None else f"'self' 'nonce-{style_nonce}'"
    return (
        f"default-src 'self'; style-src {style}; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
