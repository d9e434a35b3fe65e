"""The API for people: Swagger UI and ReDoc, from files that come with this installation, and where to begin.

Open without a key: their content is the same for every deployment of this version, and a key can only be entered once
the page is there.
"""

from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from app.api.representations import JSON, quality

router = APIRouter(include_in_schema=False)

HTML = "text/html"
RESOURCES = ("datasets", "models", "zoos", "rankings", "schedules", "metrics", "workers")
# Both set styles on elements, and ReDoc searches in a worker made from a blob; no script but ours ever runs.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
# ReDoc's footer shows a picture from there; the policy keeps it out, and browsers complain.
FOREIGN_LOGO, OWN_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg", "docs/assets/favicon.png"
# Addresses are relative, so that a proxy may serve them under a path of its own.
SWAGGER = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Forerank: API</title>
<link rel="icon" href="docs/assets/favicon.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""
REDOC = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Forerank: API</title>
<link rel="icon" href="docs/assets/favicon.png">
</head>
<body>
<redoc spec-url="openapi.json" required-props-first></redoc>
<script src="docs/redoc.js"></script>
</body>
</html>
"""


def install(app: FastAPI) -> None:
    """Serve the pages and the files that they load."""
    app.include_router(router)
    assets = StaticFiles(directory=str(files("fastapi_offline") / "static"))
    app.mount("/docs/assets", assets, name="documentation")


@router.get("/")
def begin(request: Request) -> Response:
    """Browsers are sent to the pages; programs get links."""
    accept = request.headers.get("accept", "")
    if quality(accept, HTML) > quality(accept, JSON):
        answer: Response = RedirectResponse("rankings")
    else:
        links = {
            "documentation": "/docs",
            "openapi": "/openapi.json",
            **{name: f"/v1/{name}" for name in RESOURCES},
            "ready": "/readyz",
        }
        answer = JSONResponse({"name": request.app.title, "version": request.app.version, "links": links})
    answer.headers["Vary"] = "Accept"
    return answer


@router.get("/docs")
def swagger() -> HTMLResponse:
    """Swagger UI."""
    return HTMLResponse(SWAGGER, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/start.js")
def start() -> Response:
    """A file of its own, since the policy allows no script inside a page."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/redoc.js")
def redoc_script() -> Response:
    """ReDoc itself, which asks no other host for anything."""
    return Response(_redoc_script(), media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})


@lru_cache(maxsize=1)
def _redoc_script() -> bytes:
    script = (files("fastapi_offline") / "static" / "redoc.standalone.js").read_bytes()
    return script.replace(FOREIGN_LOGO.encode(), OWN_LOGO.encode())


@router.get("/redoc")
def redoc() -> HTMLResponse:
    """ReDoc."""
    return HTMLResponse(REDOC, headers={"Content-Security-Policy": POLICY})
