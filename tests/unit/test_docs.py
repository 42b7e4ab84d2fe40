"""What the documents say is what the code does."""

import re
import tomllib
from pathlib import Path

import asgi_app
from asgi_app.__main__ import cli
from asgi_app.env import SETTINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    """The table README has to show."""
    rows = [
        f"| `{setting.name}`{' *' if setting.secret else ''} | {_code(setting.default_text)} | {setting.help} |"
        for setting in SETTINGS
    ]
    return "\n".join(["| name | default | meaning |", "| --- | --- | --- |", *rows])


def _code(default: str) -> str:
    return default if default.startswith("(") or (" " in default and not default[0].isdigit()) else f"`{default}`"


def test_the_settings_table_of_readme_is_the_one_of_the_code() -> None:
    """Name, default and meaning of every setting, and no others."""
    found = re.search(r"<!-- settings: .*? -->\n(.*?)\n<!-- end of settings -->", README, re.DOTALL)
    assert found
    assert found[1] == settings_table()


def test_every_make_target_in_readme_exists() -> None:
    """And every target has its line in `make help`."""
    targets = set(re.findall(r"^([a-z]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets >= {"run", "test", "check", "bench", "chaos", "ci", "help"}
    assert set(re.findall(r"\bmake ([a-z]+)\b", README)) <= targets


def test_every_command_in_readme_exists() -> None:
    """Ours, or one of Django's that are named there."""
    named = set(re.findall(r"`millpond ([a-z]+)", README))
    assert named - {"migrate", "createsuperuser"} <= set(cli.commands)
    assert set(cli.commands) <= named | {"worker", "scheduler"}


def test_the_changelog_knows_the_version() -> None:
    """The version has a heading, and is the one of the package."""
    headings = re.findall(
        r"^## +\[?v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert asgi_app.__version__ in headings


def test_constraints_pin_exactly_and_name_no_place() -> None:
    """One exact version a line; where packages come from is the business of who installs."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+(; .+)?", line) for line in lines)
    assert not re.search(r"://|--|\bfile\b", text)


def test_constraints_cover_every_requirement() -> None:
    """A package somebody adds without pinning it would differ between two installations."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    pinned = {
        _normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert {_normal(re.split(r"[\[<>=; ]", line)[0]) for line in wanted} <= pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_setuptools_ships_every_package_of_the_tree() -> None:
    """The list is kept by hand, so a new package is easily forgotten."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    rooms = ("asgi_app", "cache_layer", "consumers", "tasks")
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for room in rooms for path in (ROOT / room).rglob("__init__.py")
    }
    assert listed == found
