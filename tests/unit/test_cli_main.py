"""The root command: what it lists, and what it answers to mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from rehost import __version__
from rehost.cli.main import SECTIONS, root


def rehost(*typed: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.argv[0] = 'rehost'; from rehost.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *typed],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_the_commands() -> None:
    ran = rehost("--help")
    assert ran.returncode == 0
    for title, section in SECTIONS.items():
        assert f"\n{title}:\n" in ran.stdout
        for name in section:
            assert f"\n  {name} " in ran.stdout
    assert "Print the line that completes commands" in ran.stdout


def listed() -> list[tuple[str, click.Command]]:
    """Every command that is there, also those of groups, with the words that name it."""
    context = click.Context(root)
    found: list[tuple[str, click.Command]] = []
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found.extend((f"{name} {sub}", command.commands[sub]) for sub in command.list_commands(context))
        found.append((name, command))
    return found


def test_every_command_has_help_and_an_example() -> None:
    for name, command in listed():
        assert command.help, name
        assert command.epilog, name
        assert command.epilog.startswith("Example: "), name


def test_every_command_has_the_common_options() -> None:
    for name, command in listed():
        if isinstance(command, click.Group) or name == "completion":
            continue
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--project", "--json", "--quiet", "--verbose"} <= options, name


def test_version() -> None:
    ran = rehost("--version")
    assert (ran.returncode, ran.stdout) == (0, f"rehost {__version__}\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["complet"], "There is no command 'complet'. Did you mean 'completion'?"),
        (["zzz"], "There is no command 'zzz'.\n"),
        (["--jsn"], "--jsn"),
        (["completion", "tcsh"], "'tcsh'"),
    ],
)
def test_wrong_usage(typed: list[str], said: str) -> None:
    ran = rehost(*typed)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr


def test_wrong_usage_as_json() -> None:
    ran = rehost("completion", "bash", "--json")
    assert ran.returncode == 2
    answer = json.loads(ran.stdout)
    assert (answer["result"], answer["exit"]) == ("usage", 2)
    assert "--json" in answer["error"]["what"]


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", 'eval "$(_REHOST_COMPLETE=bash_source rehost)"\n'),
        ("zsh", 'eval "$(_REHOST_COMPLETE=zsh_source rehost)"\n'),
        ("fish", "_REHOST_COMPLETE=fish_source rehost | source\n"),
    ],
)
def test_completion(shell: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = rehost("completion", shell)
    assert (ran.returncode, ran.stdout) == (0, line)
    monkeypatch.setenv("_REHOST_COMPLETE", f"{shell}_source")
    assert "rehost" in rehost().stdout


def test_completion_knows_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_REHOST_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "rehost comp")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert rehost().stdout == "plain,completion\n"


def test_a_reader_that_leaves_is_quiet() -> None:
    ran = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m rehost --help | true; exit ${{PIPESTATUS[0]}}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
