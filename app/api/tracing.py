"""A span for each request, which continues the caller's trace; see `app.tracing`.

FastAPI's own spans hold the query string, so they are not used.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import tracing
from app.api.telemetry import METHODS

# Asked all the time, or of no interest.
UNTRACED = ("/livez", "/readyz", "/metrics", "/static/", "/docs/assets/")


class TracedRequests:
    """Names the span by the route's template, so that neither ids nor what a query holds is in it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(UNTRACED):
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                tracing.describe({"http.response.status_code": message["status"]})
                if message["status"] >= 500:
                    tracing.fail(str(message["status"]))
            await send(message)

        caller = Headers(scope=scope).get("traceparent")
        with tracing.span(method, parent=caller, kind="server", attributes={"http.request.method": method}):
            try:
                await self.app(scope, receive, send_noted)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                known = {"http.route": route, "forerank.request_id": scope.get("state", {}).get("request_id", "")}
                tracing.describe(known, name=f"{method} {route}")
