"""The documentation is true: its links lead somewhere, its commands and imports exist, its walk-through runs."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import forked
from compactbio.cli import app
from compactbio.comparison.suite import Suite

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.M | re.S)


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The code blocks of a page in these languages, with their language, in order."""
    return [(kind, code) for kind, code in BLOCK.findall(page.read_text()) if kind in languages]


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `compactbio` command in the shell blocks of a page."""
    found = []
    for _, code in blocks(page, "sh", "console"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for start, word in enumerate(words):
                if word == "compactbio" and (start == 0 or words[start - 1] in ("$", "|", "-m")):
                    end = next((i for i, w in enumerate(words) if i > start and w in ("|", ">", "&&")), len(words))
                    found.append(words[start + 1 : end])
    return found


@pytest.fixture(scope="module")
def parser() -> Any:
    """The command line, which reads its arguments and does nothing else."""

    def silence(command: Any) -> Any:
        command.callback = lambda **options: None
        for inner in getattr(command, "commands", {}).values():
            silence(inner)
        return command

    return silence(typer.main.get_command(app))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_are_read_by_the_command_line(page: Path, parser: Any) -> None:
    for arguments in commands(page):
        try:
            parser.main(list(arguments), prog_name="compactbio", standalone_mode=False)
        except Exception as error:
            pytest.fail(f"compactbio {shlex.join(arguments)}: {error}")


def test_options_in_the_text_are_options_of_a_command(parser: Any) -> None:
    def options(command: Any) -> set[str]:
        inner = getattr(command, "commands", {}).values()
        return {name for parameter in command.params for name in parameter.opts}.union(*map(options, inner))

    known = options(parser) | {"--help"}
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            named = set(re.findall(r"`(?:compactbio )?(?:\w+ )*(--[a-z-]+)(?![\w-])", BLOCK.sub("", page.read_text())))
            assert named <= known, (page.name, named - known)


def test_the_suite_of_encoders_is_one() -> None:
    """All but its paths, which are those of a user's data."""
    suite = Suite.model_validate(yaml.safe_load((ROOT / "docs" / "suites" / "encoders.yaml").read_text()))
    assert len(suite.models) == 11 and suite.baseline == suite.teacher == "BioBERT"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_import_what_there_is(page: Path) -> None:
    for _, code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "compactbio":
                module = import_module(node.module)
                assert not [name.name for name in node.names if not hasattr(module, name.name)], node.module


def test_the_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    places = (ROOT, ROOT / "src/compactbio", ROOT / "src")
    named = [name for name in re.findall(r"`([\w./]+(?:/|\.\w+))`", text) if "NAME" not in name and "/" in name]
    assert named and not [name for name in named if not any((place / name).exists() for place in places)]


@pytest.mark.slow
def test_the_walk_through_runs(tmp_path: Path) -> None:
    steps = [
        "import subprocess\nshell = lambda code: subprocess.run(['bash', '-euo', 'pipefail', '-c', code], check=True)"
    ]
    for kind, code in blocks(ROOT / "docs/walkthrough.md", "python", "sh"):
        steps.append(code if kind == "python" else f"shell({code!r})")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = forked.run(
        [sys.executable, "-c", "\n".join(steps)],
        cwd=tmp_path,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "text='lung cancer', type='Disease'" in done.stdout and "text='aspirin', type='Drug'" in done.stdout
    [line] = (tmp_path / "entities.jsonl").read_text().splitlines()
    document = json.loads(line)
    mentions = [(document["text"][span["start"] : span["end"]], span["type"]) for span in document["spans"]]
    assert mentions == [("warfarin", "Drug"), ("acute renal failure", "Disease")]


def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'id="compactbio.Annotator.from_pretrained"' in (tmp_path / "api/index.html").read_text()
