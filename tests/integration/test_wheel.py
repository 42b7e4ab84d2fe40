"""A built wheel carries everything, and runs where there is no checkout."""

import contextlib
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("asgi_app", "cache_layer", "consumers", "tasks")

pytestmark = pytest.mark.timeout(240)


def run(*command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command away from the checkout and from the settings of this test run."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "PYTHON", "DJANGO_"))
    }
    return subprocess.run(command, cwd=cwd, env=clean | environ, capture_output=True, text=True, timeout=200)


def sources() -> Iterator[str]:
    """Every file of the rooms."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree; without the network."""
    copy = tmp_path_factory.mktemp("source") / "millpond"
    copy.mkdir()
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    flags = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out))
    done = run(sys.executable, "-m", "pip", "wheel", *flags, str(copy), cwd=out)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("millpond-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory the wheel was installed into."""
    target = tmp_path_factory.mktemp("installed")
    done = run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
        cwd=target,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_carries_every_file_of_the_rooms(wheel: Path) -> None:
    """Scripts, templates, static files, data, documents; and neither tests nor anything else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(sources()) - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(ROOMS)


def test_the_wheel_checks_itself_elsewhere(installed: Path, tmp_path: Path) -> None:
    """`millpond check` finds fault with nothing but the store that does not run."""
    settings = {"PYTHONPATH": str(installed), "MILLPOND_HOME": str(tmp_path / "home")}
    assert run(sys.executable, "-m", "asgi_app", "migrate", "--no-input", cwd=tmp_path, **settings).returncode == 0
    done = run(sys.executable, "-m", "asgi_app", "check", cwd=tmp_path, **settings)
    wrong = [line for line in done.stdout.splitlines() if " WRONG " in line]
    assert (done.returncode, [line.split()[0] for line in wrong]) == (1, ["store"]), done.stdout + done.stderr


def test_the_wheel_serves_elsewhere(installed: Path, tmp_path: Path) -> None:
    """The whole service, with its pages and static files, without a `collectstatic`."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("MILLPOND_", "PYTHON", "DJANGO_"))
    }
    service = subprocess.Popen(
        [sys.executable, "-m", "asgi_app", "up", "--no-demo", "--port", "0", "--home", str(tmp_path / "home")],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(installed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert service.stdout
        address = service.stdout.readline().removeprefix("millpond is ready: ").strip()
        assert address, "it did not get ready"
        for path in ("/login", "/static/millpond/tokens.css", "/static/admin/css/base.css"):
            with urllib.request.urlopen(address + path, timeout=10) as answer:
                assert answer.status == 200
    finally:
        service.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.wait(60)
        service.kill()
        service.wait()
        if service.stdout:
            service.stdout.close()
    assert service.returncode == 0
