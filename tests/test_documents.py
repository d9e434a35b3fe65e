"""Generated parts of the documents are what the code says today."""

from docs import settings_table


def test_the_table_of_settings_is_current() -> None:
    page = settings_table.PAGE.read_text()
    assert settings_table.written(page) == page, "run: python docs/settings_table.py"
