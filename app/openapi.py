"""Write the OpenAPI document as it is committed: `python -m app.openapi docs/openapi.json`."""

import sys
from pathlib import Path

from app.api.document import rendered
from app.main import create_app
from app.settings import Settings


def main() -> None:
    """Write to the file that is named, or to standard output."""
    document = rendered(create_app(Settings()))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(document, encoding="utf-8")
    else:
        sys.stdout.write(document)


if __name__ == "__main__":
    main()
