"""docs/configuration.md is what the schema says today."""

from pathlib import Path

from waypost.config.manual import manual
from waypost.config.schema import Configuration
from waypost.config.walk import settings_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_current():
    text = PAGE.read_text("utf-8")
    assert text == manual(), "run: python -m waypost.config.manual > docs/configuration.md"


def test_every_setting_is_explained():
    for setting in settings_of(Configuration):
        assert setting.field.description, setting.path
        assert setting.field.description.rstrip().endswith("."), setting.path
        assert setting.shape.words or setting.shape.container == "names", setting.path
