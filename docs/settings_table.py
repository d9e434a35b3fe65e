"""Writes the table of settings into deployment.md: `python docs/settings_table.py`."""

from pathlib import Path

from app.settings import Settings

PAGE = Path(__file__).with_name("deployment.md")
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->"


def table() -> str:
    """One line a setting, from its field."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = ":".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
        shown = f"`{default}`" if default else "none"
        lines.append(f"| `FORERANK_{name.upper()}` | {shown} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with the present table."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
