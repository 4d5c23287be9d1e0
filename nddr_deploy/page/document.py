"""One page that needs nothing else: no script, no network, pictures and style inside."""

from __future__ import annotations

from nddr_deploy.page.markup import Html, tag
from nddr_deploy.page.style import CSS

# The page may show its own pictures and style, and fetch or run nothing, whatever anybody tried to put into it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, *parts: str | None) -> str:
    """The whole page.

    Args:
        title: of the window.
        parts: what it shows, from top to bottom: markup as it is, text escaped.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *parts)), lang='en')}\n"
