"""What panicmail shows over HTTP: one incident for one person, and what machines ask.

    GET, HEAD /i/<token>        where the incident stands and what its reporter wrote; changes nothing
    POST      /i/<token>        word=ack|no|escalate|take|resolve|undo; then 303 back to the page
    POST      /hooks/gitlab     what GitLab tells; 202, 204, 401
    POST      /hooks/pagerduty  what PagerDuty tells; 202, 204, 401
    GET       /healthz          200 while the tick ticks, else 503
    GET       /readyz           200 when a panic can be accepted, else 503 and the reasons
    GET       /metrics          Prometheus text
    GET       /                 401: there is no board yet

It promises that looking is safe (mail scanners and previewers follow links, so only a POST acts), that nothing a
sender wrote acts in the browser, that the first line always tells the state as it is now, and that the pages work on a
phone without JavaScript. What a press came to travels in the redirect as a code out of a fixed table, so the page
survives being reloaded by a phone that put it to sleep, and no text from an address ever gets into a page.

It refuses to know the store, the rules or the configuration: `Backend` answers, in threads, never on the loop.

Whoever has a link can act with it; what is done so is recorded as "by link, not authenticated" by the backend and the
page says it, and who acknowledged, took or closed by mistake may undo it for two minutes. A link whose incident was
resolved a week ago is a 410. The token is in the path: a proxy in front should not log paths under /i/, and should
not pass /metrics, /healthz and /readyz on to the public. A failure is logged as `web.failed` with the route, never
with the token.

Not here yet: the board.
"""

from panicmail.server.http.app import Backend, create_app
from panicmail.server.http.http_server import WebServer
from panicmail.server.http.link import LinkPage
from panicmail.server.http.metrics import Figure

__all__ = ["Backend", "Figure", "LinkPage", "WebServer", "create_app"]
