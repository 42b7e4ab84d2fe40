"""Files of others that we serve are the published ones and carry their licence; pages load nothing from elsewhere."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

APP = Path(__file__).resolve().parents[2] / "asgi_app"
VENDOR = APP / "static" / "vendor"
PACKAGES: list[dict[str, Any]] = tomllib.loads((VENDOR / "VENDOR.toml").read_text("utf-8"))["package"]
NAMED = [pytest.param(package, id=package["name"]) for package in PACKAGES]
OWN_SOURCES = sorted([*(APP / "templates").rglob("*.html"), *(APP / "static" / "millpond").rglob("*.*")])


@pytest.mark.parametrize("package", NAMED)
def test_every_file_has_the_recorded_checksum(package: dict[str, Any]) -> None:
    """A vendored file that was edited, truncated or swapped is found."""
    folder = VENDOR / package["directory"]
    actual = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert actual == package["sha256"]


@pytest.mark.parametrize("package", NAMED)
def test_every_package_carries_its_licence_and_its_origin(package: dict[str, Any]) -> None:
    """The licence text stands beside the code, and the record says which tarball it came from."""
    licence = VENDOR / package["directory"] / package["licence_file"]
    assert licence.name in package["sha256"]
    assert "Permission is hereby granted" in licence.read_text("utf-8")
    assert package["directory"] == f"{package['name']}-{package['version']}"
    assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])


def test_nothing_lies_beside_the_recorded_packages() -> None:
    """A folder without a record would be code of unknown origin."""
    assert {path.name for path in VENDOR.iterdir()} == {"VENDOR.toml", *(package["directory"] for package in PACKAGES)}


@pytest.mark.parametrize("source", OWN_SOURCES, ids=lambda path: path.relative_to(APP).as_posix())
def test_our_pages_load_nothing_from_elsewhere(source: Path) -> None:
    """No address of another host, no inline script, style or handler, no HTML made from data."""
    text = source.read_text("utf-8").replace("http://www.w3.org/", "")
    assert not re.search(r"https?://|[\"'(]//", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    if source.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize("template", sorted((APP / "templates").rglob("*.html")), ids=lambda path: path.name)
def test_every_static_file_a_page_names_exists(template: Path) -> None:
    """A page never asks for a script or style sheet that is not shipped."""
    named = re.findall(r"{%\s*static\s+['\"]([^'\"]+)['\"]", template.read_text("utf-8"))
    assert [name for name in named if not (APP / "static" / name).is_file()] == []
