"""The wheel works in an environment of its own, without the repository."""

import json
import os
import re
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from compactbio import recipes

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/compactbio"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What an installed package says of itself: where it is, and a hash of each file that is not Python.
READ_DATA = """
import compactbio, json
from hashlib import sha256
from importlib.resources import files
root = files("compactbio")
def walk(folder):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from walk(entry)
        elif not entry.name.endswith((".py", ".pyc")):
            yield entry
hashes = {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in walk(root)}
print(json.dumps({"place": compactbio.__file__, "version": compactbio.__version__, "hashes": hashes}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a new environment that holds the built wheel, and sees the packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    programs = folder / "env/bin"
    [packages] = (folder / "env/lib").glob("python*/site-packages")
    [wheel] = folder.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # Dependencies come from here. The .pth files of those folders are not run, so an editable install is not seen.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(here) + "\n")
    return programs


def test_the_command_runs_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "compactbio", "--version", cwd=tmp_path).split() == ["compactbio", PROJECT["version"]]
    listed = run(installed / "compactbio", "recipes", "--json", cwd=tmp_path)
    assert [recipe["name"] for recipe in json.loads(listed)] == recipes.names()
    shown = yaml.safe_load(run(installed / "compactbio", "recipes", "show", "distil-biobert", cwd=tmp_path))
    assert shown["kind"] == "distil"


def test_all_files_of_the_package_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(installed / "python", "-c", READ_DATA, cwd=tmp_path))
    assert Path(found["place"]).is_relative_to(installed.parent)
    assert found["version"] == PROJECT["version"]
    here = {
        str(path.relative_to(PACKAGE)): sha256(path.read_bytes()).hexdigest()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert found["hashes"] == here and "py.typed" in here


def test_the_version_is_stated_once_and_cited() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == PROJECT["version"] and cited["license"] == PROJECT["license"]
    [release] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[:1]
    assert release.rstrip(",") == PROJECT["version"]
