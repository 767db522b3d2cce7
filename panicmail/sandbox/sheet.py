"""The sheet all pages of the sandbox are written on: small, readable on a phone, and with nothing from elsewhere."""

from __future__ import annotations

from html import escape

from panicmail.sandbox.http_request import SandboxAnswer

#: Nothing of a mail may load, run or navigate, should a text ever get through unescaped.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  overflow-wrap: anywhere }
ul { padding-left: 1.2rem } li { margin: .4rem 0 } h1 { font-size: 1.4rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f8; padding: .8rem; border-radius: 4px }
small { color: #666 } h3 { font-size: 1rem; margin: 1.5rem 0 .3rem } .system { color: #666 }
@media (max-width: 30rem) { body { margin: .8rem auto } pre { padding: .5rem } }
"""


def sheet(title: str, body: str, *, status: int = 200, refresh: int = 0) -> SandboxAnswer:
    """A page. `body` is HTML, the title is text; `refresh`: seconds after which it is asked for again, 0 for never."""
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width">{again}<style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
    return SandboxAnswer(status=status, body=html.encode(), type="text/html; charset=utf-8", headers=HEADERS)
