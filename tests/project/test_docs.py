"""The documentation is true: its links work, its commands exist, and they print the output that it shows."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from places import ROOT
from typer.core import TyperGroup
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.infrastructure.aws_errors import CAUSES
from serving.settings import Settings

COMMAND = typer.main.get_command(app)
CHEAP = ("cost", "keys", "synthesize")  # blocks with only these commands are run


@cache
def listed(pattern: str) -> tuple[Path, ...]:
    """The repository's files that match a pattern, including uncommitted ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(ROOT / name for name in sorted(set(names)) if (ROOT / name).exists())


PAGES = listed("*.md")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The code blocks of a page: the language of a fenced block (or ""), and the lines."""
    language: str | None = None
    lines: list[str] = []
    for line in [*page.read_text(encoding="utf-8").splitlines(), ""]:
        fence = re.match(r" *```(\w*)", line)
        if fence and language is None:
            if lines:
                yield "", lines
            language, lines = fence[1], []
        elif fence:
            yield str(language), lines
            language, lines = None, []
        elif language is not None:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line.strip())
        elif line.strip() and lines:
            yield "", lines
            lines = []
    if lines:
        yield "", lines


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8"))


def whole(lines: list[str]) -> list[str]:
    """Shell lines, with lines that continue after a backslash joined."""
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The words of every command of this project on a page, and whether it is in a block, and so complete."""
    lines = [(line, True) for _, block in blocks(page) for line in whole(block)]
    for line, shown in [*lines, *((span, False) for span in re.findall(r"`([^`\n]+)`", prose(page)))]:
        if not re.search(r"\b(fraudline|make|python3?) ", line):
            continue
        tokens = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="&|;")
        tokens.whitespace_split = True
        words: list[str] = []
        for token in [*tokens, ";"]:
            if not re.fullmatch(r"[&|;]+", token):
                words.append(token)
            elif words:
                if re.fullmatch(r"(\.venv/bin/)?(fraudline|make|python3?)", words[0]) and len(words) > 1:
                    yield words, shown
                words = []


def check(words: list[str], shown: bool = True) -> None:
    """Fail unless a command exists and takes these options and values. Does not run it.

    shown: the command is complete, so it must have all required options
    """
    program, *arguments = words
    program = program.rpartition("/")[2]
    if arguments == ["..."]:
        return
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        unknown = [word for word in arguments if "=" not in word and word not in targets]
        assert not unknown, f"make has no target {unknown}"
    elif program == "fraudline":
        try:
            parse(COMMAND, arguments)
        except typer.BadParameter as error:
            if shown or type(error).__name__ != "MissingParameter":
                raise
    elif arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), f"there is no module {arguments[1]}"
    elif arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).exists(), f"there is no script {arguments[0]}"


def parse(command: Any, arguments: list[str]) -> None:
    if isinstance(command, TyperGroup) and arguments and not arguments[0].startswith("-"):
        known = command.commands
        assert arguments[0] in known, f"no command {arguments[0]!r}; there are {', '.join(known)}"
        parse(known[arguments[0]], arguments[1:])
    elif not {"--help", "--install-completion", "--show-completion"} & set(arguments):
        command.make_context(str(command.name), list(arguments))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """A page's links within the repository: as written, the target file (a folder's README, if any), the anchor."""
    for written in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", written):
            continue
        path, _, anchor = written.partition("#")
        target = (page.parent / path).resolve() if path else page
        inner = target / "README.md"
        yield written, inner if inner.exists() else target, anchor


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_work(page: Path) -> None:
    for written, target, anchor in links(page):
        assert target.exists(), f"{written} does not exist"
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), f"{written}: there is no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page not in reached:
            reached.add(page)
            queue += [target for _, target, _ in links(page) if target.suffix == ".md"]
    assert {str(page.relative_to(ROOT)) for page in set(PAGES) - reached} == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist_and_take_these_arguments(page: Path) -> None:
    for words, shown in commands(page):
        check(words, shown)


def test_wrong_commands_are_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Say `fraudline cost --tasks 3`.\n\n    make run\n\n```\n$ fraudline run \\\n   --hom x\n```\n")
    lines = [words for words, _ in commands(page)]
    assert lines == [["make", "run"], ["fraudline", "run", "--hom", "x"], ["fraudline", "cost", "--tasks", "3"]]
    check(lines[0])
    check(lines[2])
    with pytest.raises(Exception, match="No such option"):
        check(lines[1])
    for wrong in (["fraudline", "models", "lst"], ["make", "everything"], ["python", "-m", "pipeline.nothing"]):
        with pytest.raises(AssertionError):
            check(wrong)


def leaves(command: Any, name: str = "fraudline") -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            yield from leaves(inner, f"{name} {word}")
    else:
        yield name, command


@pytest.mark.parametrize(("name", "command"), list(leaves(COMMAND)), ids=[name for name, _ in leaves(COMMAND)])
def test_every_command_has_an_example_that_works(name: str, command: Any) -> None:
    [example] = re.findall(r"Example: (fraudline .*)", command.help or "")
    assert example.startswith(name)
    check(shlex.split(example))


def runnable(page: Path) -> Iterator[list[list[str]]]:
    """A page's blocks with only cheap commands."""
    for language, lines in blocks(page):
        ours = language == "" and all(line.startswith("fraudline ") for line in lines if line.strip())
        written = [shlex.split(line, comments=True) for line in whole(lines) if line.strip()] if ours else []
        if written and all(len(words) > 1 and words[1] in CHEAP for words in written):
            yield written


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_cheap_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    for block in runnable(page):
        for words in block:
            if "--secret" in words:
                continue
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_print_the_output_that_the_page_shows(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the language `console`: a command after `$`, then its whole output."""
    monkeypatch.setenv("COLUMNS", "120")
    for language, lines in blocks(page):
        if language == "console":
            words = shlex.split(lines[0].removeprefix("$ "))
            result = CliRunner().invoke(app, words[1:])
            printed = [line.rstrip() for line in result.output.splitlines()]
            assert lines[1:] == printed, f"{page.name} shows a different output of {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_tests_and_variables_on_the_page_exist(page: Path) -> None:
    text = prose(page)
    for named in re.findall(r"`([a-z_]+/[\w./]+\.(?:py|toml|md|html|sh))(?:::(?:\w+::)?(\w+))?`", text):
        path = ROOT / named[0]
        assert path.exists() or (page.parent / named[0]).exists(), f"there is no {named[0]}"
        if named[1]:
            assert f"def {named[1]}(" in path.read_text(), f"{named[0]} has no {named[1]}"
    for variable in set(re.findall(r"\bFRAUDLINE_[A-Z_]+[A-Z]\b", text)):
        assert variable in variables(), f"nothing reads {variable}"


@cache
def variables() -> frozenset[str]:
    settings = {f"FRAUDLINE_{name.upper()}" for name in Settings.model_fields}
    options = {str(o.envvar) for _, leaf in leaves(COMMAND) for o in leaf.params if o.envvar}
    code = " ".join(path.read_text() for path in listed("*.py") if path.relative_to(ROOT).parts[0] != "tests")
    return frozenset(settings | options | set(re.findall(r"FRAUDLINE_[A-Z_]+", code)))


def test_the_page_explains_the_errors_of_a_failed_deployment() -> None:
    page = (ROOT / "pipeline/infrastructure/AWS.md").read_text()
    for _, meaning in CAUSES:
        assert re.split(r"[:,]", meaning)[0] in page
