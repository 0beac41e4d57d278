from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from restore_lib.config_errors import explained
from restore_lib.errors import ConfigError

FILE = Path("tapeflow.toml")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")

    drives: int = 1
    key_file: int = 1
    catalog: int = 1


def said(**values: object) -> ConfigError:
    with pytest.raises(ValidationError) as caught:
        Section(**values)  # type: ignore[arg-type]  # that is what is tested
    return explained(FILE, caught.value, Section.model_fields)


def test_the_value_is_named_and_how_many_more_are_wrong() -> None:
    error = said(drives="many", slots=3)
    assert error.message.startswith("tapeflow.toml: drives = 'many': ")
    assert "(1 more after this one)" in error.message
    assert "docs/configuration.md" in error.remedy


@pytest.mark.parametrize(
    ("key", "remedy"), [("drivse", "did you mean 'drives'?"), ("xyzzy", "remove it")]
)
def test_an_unknown_key_may_be_a_mistyped_one(key: str, remedy: str) -> None:
    error = said(**{key: 1})
    assert f"unknown key {key!r}" in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize("key", ["key_file", "catalog"])
def test_what_may_be_a_secret_is_not_shown(key: str) -> None:
    assert "hush" not in str(said(**{key: "hush"}))
