"""The API for people: Swagger UI and ReDoc, from files that come with this installation, and where to begin.

Open without a key: their content is the same for every deployment of this version, and a key can only be entered once
the page is there.
"""

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
<redoc spec-url="openapi.json"></redoc>
<script src="docs/assets/redoc.standalone.js"></script>
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


@router.get("/redoc")
def redoc() -> HTMLResponse:
    """ReDoc."""
    return HTMLResponse(REDOC, headers={"Content-Security-Policy": POLICY})
