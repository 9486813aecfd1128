"""The commands as they are typed: wrong input, exit codes, what --json ends with, and env files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_fake import FakeCloud
from project_here import ENV, STANDING, TOML, files, last, make, typed
from rehost.cli import rehearsal
from rehost.lab import programs
from rehost.project import config, dotenv
from rehost.run.errors import UsageError
from rehost.run.secret import Secret


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path, monkeypatch)


# -- bad input: exit code 2, file, line and key are named, nothing is created ---------------------------------

COMMANDS = ("plan", "up", "deploy", "check")


def refused(project: Path, command: str, *parts: str) -> None:
    """The command ends with 2, names all the parts, and leaves everything as it was."""
    before = files(project)
    people = typed(command)
    told = people.output
    assert people.exit_code == 2, told
    for part in parts:
        assert part in told
    assert "Traceback" not in told
    program = typed(command, "--json")
    assert program.exit_code == 2
    ending = last(program)
    if command != "check":  # which reports findings, and is done with its job
        assert (ending["result"], ending["exit"]) == ("usage", 2)
        assert ending["error"]["cure"]
    assert files(project) == before
    assert "hunter2" not in told + program.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        (TOML + "[build\n", ("rehost.toml:17", "TOML")),
        (TOML.replace("[run]", "[run]\nhelth = 1"), ("rehost.toml:9", "helth", "health")),
        (TOML.replace('app = "content-api"', 'app = "Content_API"'), ("rehost.toml:1", "app", "Content_API")),
        (TOML.replace("us-west1-a", "us-west1"), ("rehost.toml:6", "zone", "us-west1-a")),
        (TOML.replace("gce", "aws"), ("rehost.toml", "provider")),
        (
            TOML + '[source]\nurl = "https://me:hunter2@x.example"\n',
            ("rehost.toml:18", "url", "secrets never stand here"),
        ),
    ],
    ids=["syntax", "unknown key", "name", "region", "provider", "secret"],
)
def test_a_rehost_toml_with_a_mistake(project: Path, command: str, toml: str, parts: tuple[str, ...]) -> None:
    (project / "rehost.toml").write_text(toml)
    refused(project, command, *parts)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("env", "parts"),
    [
        (b"A=1\nhunter2 without a name\n", (".env.prod:2", "KEY=value")),
        (b"SECRET_KEY='hunter2\n", (".env.prod:1", "SECRET_KEY", "never closed")),
        (b"A=1\nSECRET_KEY=\xff\n", (".env.prod:2", "UTF-8")),
        (b"A=1\n", (".env.prod", "SECRET_KEY")),
        (None, (".env.prod", "no such env file")),
    ],
    ids=["line", "quote", "bytes", "required", "missing"],
)
def test_an_env_file_with_a_mistake(
    project: Path, command: str, env: bytes | None, parts: tuple[str, ...]
) -> None:
    if env is None:
        (project / ".env.prod").unlink()
    else:
        (project / ".env.prod").write_bytes(env)
    refused(project, command, *parts)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dockerfile_that_is_not_there(project: Path, command: str) -> None:
    (project / "Dockerfile").unlink()
    refused(project, command, "Dockerfile", "dockerfile")


@pytest.mark.parametrize("command", [*COMMANDS, "status", "history", "rollback", "health", "logs", "down"])
def test_no_credentials(project: Path, command: str) -> None:
    refused(project, command, "gcloud auth application-default login", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.mark.parametrize("command", ["plan", "up", "check"])
def test_a_zone_that_the_cloud_does_not_know(
    project: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = FakeCloud()
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "token")
    for module in ("rehost.cli.site", "rehost.cloud.client"):
        monkeypatch.setattr(f"{module}.Client", lambda _project, _credentials: cloud.client())
    (project / "rehost.toml").write_text(TOML.replace("us-west1-a", "us-west1-z"))
    refused(project, command, "us-west1-z", "rehost.toml", "us-west1-a")
    assert cloud.changes() == []


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", "one"),
        ("env", "set"),
        ("env", "no-such-command"),
        ("logs", "--lines", "many"),
        ("exec",),
        ("status", "--project", "/no/such/directory"),
        ("rehearse", "--app", "/no/such/directory"),
        ("down", "--no-such-option"),
    ],
    ids=" ".join,
)
def test_what_was_mistyped(project: Path, words: tuple[str, ...]) -> None:
    result = typed(*words)
    assert result.exit_code == 2
    assert "Usage: rehost" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("logs", "--grep", "("), ("--grep", "regular expression", "backslash")),
        (("logs", "--since", "yesterday"), ("--since", "yesterday", "10m")),
        (("lab", "fault", "instances.insert"), ("KIND", "--list")),
    ],
)
def test_options_that_make_no_sense(project: Path, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    result = typed(*words)
    assert result.exit_code == 2
    assert all(part in result.stderr for part in parts)


@pytest.mark.parametrize("words", [("status",), ("up",), ("env", "list"), ("record",)], ids=" ".join)
def test_a_directory_without_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = typed(*words)
    assert result.exit_code == 2
    assert "rehost init" in result.stderr
    assert list(tmp_path.iterdir()) == []


# -- a machine that does not answer --------------------------------------------------------------------------

ASKING = [
    *(
        ("status",),
        ("health",),
        ("history",),
        ("rollback",),
        ("deploy",),
        ("plan",),
        ("up",),
        ("down", "--yes"),
    ),
    *(("logs",), ("env", "diff")),
]


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_a_machine_where_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    make(tmp_path, monkeypatch, STANDING)
    result = typed(*words, "--json")
    assert result.exit_code == 1
    ending = last(result)
    assert ending["result"] == "failed"
    assert ending["error"]["what"] == "nothing answers on the ssh port"
    assert "127.0.0.1" in ending["error"]["where"]
    assert ending["command"] == " ".join(words[: 2 if words[0] == "env" else 1])


# -- env -----------------------------------------------------------------------------------------------------


def value(project: Path, name: str, file: str = ".env.prod") -> str | None:
    found = dotenv.read(project / file).variables.get(name)
    return found.value.reveal() if found else None


def test_the_variables_by_name(project: Path) -> None:
    (project / ".env.prod").write_text("OTHER=hunter2hunter2\n")
    people = typed("env", "list")
    assert (people.exit_code, people.stdout) == (0, "OTHER  .env.prod:1\n")
    assert "SECRET_KEY is required and missing" in people.stderr
    ending = last(typed("env", "list", "--json"))
    assert ending["variables"] == {"OTHER": ".env.prod:1"}
    assert ending["missing"] == ["SECRET_KEY"]
    assert "hunter2" not in people.output


def test_a_value_on_the_command_line_is_refused(project: Path) -> None:
    for words in (("SECRET_KEY=hunter2new",), ("--json", "SECRET_KEY=hunter2new")):
        result = typed("env", "set", *words)
        assert result.exit_code == 2
        assert "shell's history" in result.output
        assert "`rehost env set SECRET_KEY`" in result.output
        assert "hunter2new" not in result.output
    assert (project / ".env.prod").read_text() == ENV


@pytest.mark.parametrize(
    ("stdin", "kept"),
    [
        (b"plain\n", "plain"),
        (b"plain", "plain"),
        (b"two\n\n", "two\n"),
        (b"", ""),
        (b"a\r\nb\r\n", "a\r\nb\r"),
        (
            b" 'quoted', $dollar #hash \"double\" \\n \xc3\xbcn\n",
            " 'quoted', $dollar #hash \"double\" \\n ün",
        ),
        (b"-----BEGIN-----\nabc\n-----END-----\n", "-----BEGIN-----\nabc\n-----END-----"),
    ],
)
def test_a_value_from_standard_input_is_kept_as_it_is(project: Path, stdin: bytes, kept: str) -> None:
    result = typed("env", "set", "NEW", stdin=stdin)
    assert result.exit_code == 0
    assert value(project, "NEW") == kept
    assert value(project, "SECRET_KEY") == "hunter2 hunter2"
    assert (project / ".env.prod").stat().st_mode & 0o777 == 0o600
    again = last(typed("env", "set", "NEW", "--json", stdin=stdin))
    assert (again["changed"], again["file"]) == (False, ".env.prod")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_any_value_is_kept_and_never_shown(project: Path, text: str) -> None:
    result = typed("env", "set", "NEW", stdin=text.encode() + b"\n")
    assert result.exit_code == 0
    assert value(project, "NEW") == text
    if len(text) > 20:
        assert text not in result.output


@pytest.mark.parametrize(("stdin", "part"), [(b"\xff\xfe", "UTF-8"), (b"a\0b", "NUL")])
def test_a_value_that_no_environment_can_carry(project: Path, stdin: bytes, part: str) -> None:
    result = typed("env", "set", "NEW", stdin=stdin)
    assert result.exit_code == 2
    assert part in result.stderr
    assert (project / ".env.prod").read_text() == ENV


def test_a_wrong_name(project: Path) -> None:
    result = typed("env", "set", "NOT-A-NAME", stdin=b"x")
    assert result.exit_code == 2
    assert "NOT-A-NAME" in result.stderr


def test_a_variable_changes_in_the_file_that_it_stands_in(project: Path) -> None:
    (project / "rehost.toml").write_text(TOML.replace('[".env.prod"]', '[".env.prod", ".env.more"]'))
    (project / ".env.more").write_text("OTHER=2\nLAST=1\n")
    for name, file in (("SECRET_KEY", ".env.prod"), ("OTHER", ".env.more"), ("NEW", ".env.more")):
        assert last(typed("env", "set", name, "--json", stdin=b"changed"))["file"] == file
        assert value(project, name, file) == "changed"
    assert value(project, "OTHER") == "1"
    ending = last(typed("env", "unset", "OTHER", "--json"))
    assert (ending["changed"], ending["files"]) == (True, [".env.prod", ".env.more"])
    assert value(project, "OTHER") is None
    people = typed("env", "unset", "OTHER")
    assert (people.exit_code, people.stdout) == (0, "OTHER stands in no env file.\n")


def test_a_project_without_env_files(project: Path) -> None:
    (project / "rehost.toml").write_text(
        TOML.replace('files = [".env.prod"]\nrequired = ["SECRET_KEY"]', "files = []")
    )
    result = typed("env", "set", "A", stdin=b"x")
    assert result.exit_code == 2
    assert "names no env file" in result.stderr
    assert last(typed("env", "list", "--json"))["variables"] == {}


# -- init, record ----------------------------------------------------------------------------------------------


def test_init_in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ending = last(typed("init", "--json"))
    assert (ending["exit"], ending["written"], ending["added"]) == (0, True, [])
    assert config.load(tmp_path).machine.provider == "gce"  # a whole file, to be filled in
    assert "Dockerfile is not there" in typed("record").output


def test_init_writes_once(project: Path) -> None:
    (project / "rehost.toml").unlink()
    (project / "render.yaml").write_text(
        "services:\n- type: web\n  name: Content API\n  runtime: docker\n  healthCheckPath: /health\n"
        "  envVars:\n  - key: LOG_LEVEL\n    value: info\n"
    )
    ending = last(typed("init", "--json"))
    assert (ending["result"], ending["written"], ending["added"]) == ("done", True, ["LOG_LEVEL"])
    assert value(project, "LOG_LEVEL") == "info"
    first = files(project)
    again = last(typed("init", "--json"))
    assert (again["written"], again["added"]) == (False, [])
    assert files(project) == first


def test_a_record_of_nothing(project: Path) -> None:
    people = typed("record")
    assert people.exit_code == 0
    assert people.stdout.startswith("# ")
    assert "could not be read: no credentials" in people.stdout
    ending = last(typed("record", "--json"))
    assert ending["record"].startswith("# ")
    ending = last(typed("record", "--json", "--output", "move.md"))
    assert ending["record"] == "move.md"
    assert (project / "move.md").read_text().startswith("# ")


def test_a_record_that_cannot_be_written(project: Path) -> None:
    result = typed("record", "--output", "no/such/place.md")
    assert result.exit_code == 2
    assert "no/such/place.md" in result.stderr
    assert "--output" in result.stderr


def test_a_record_holds_no_secret(project: Path) -> None:
    journal = project / ".rehost/journal"
    journal.mkdir(parents=True)
    lines = [
        {"time": 1.0, "kind": "run-start", "data": {"command": "up", "version": "0"}},
        {"time": 2.0, "kind": "note", "text": "says hunter2 hunter2", "data": {"open_point": True}},
        {"time": 3.0, "kind": "run-end", "data": {"result": "done", "exit": 0}},
    ]
    # As if it came from before the value was known to be a secret.
    (journal / "20260101T000000-up.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    typed("record", "--output", "move.md")
    for text in (typed("record").output, typed("record", "--json").output, (project / "move.md").read_text()):
        assert "hunter2" not in text


# -- the lab and rehearsals, as far as nothing is started --------------------------------------------------------


@pytest.mark.parametrize("name", ["../../etc", "Upper", "", "a" * 40, "a/b"])
def test_a_lab_s_name_is_no_path(project: Path, name: str) -> None:
    for words in (("lab", "status", "--name", name), ("rehearse", "--down", "--lab", name)):
        result = typed(*words)
        assert result.exit_code == 2
        assert "Error: " in result.stderr


def test_a_lab_that_is_not_up(project: Path) -> None:
    ending = last(typed("lab", "status", "--name", "never-was", "--json"))
    assert (ending["exit"], ending["up"], ending["leftovers"]) == (1, False, [])
    ending = last(typed("lab", "env", "--name", "never-was", "--json"))
    assert ending["exit"] != 0
    assert "rehost lab up" in ending["error"]["cure"]
    ending = last(typed("lab", "down", "--name", "never-was", "--json"))
    assert (ending["exit"], ending["removed"]) == (0, False)


def test_a_lab_on_a_computer_without_its_packages(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "environment", lambda: {"PATH": "/nowhere"})
    ending = last(typed("lab", "status", "--name", "never-was", "--json"))
    assert (ending["exit"], ending["up"], ending["leftovers"]) == (1, False, [])
    ending = last(typed("lab", "down", "--name", "never-was", "--json"))
    assert (ending["exit"], ending["removed"]) == (0, False)


def test_a_rehearsal_that_never_was(project: Path, tmp_path: Path) -> None:
    ending = last(typed("rehearse", "--down", "--lab", "never-was", "--json"))
    assert (ending["exit"], ending["removed"]) == (0, False)
    place = rehearsal.place("never-was")
    assert place == tmp_path / "home/.cache/rehost/rehearsals/never-was"
    place.mkdir(parents=True)
    (place / ".env.prod").write_text("A=1")
    assert last(typed("rehearse", "--down", "--lab", "never-was", "--json"))["removed"] is True
    assert not place.exists()


def test_the_rehearsal_s_variables_are_awkward_and_new_each_time(project: Path) -> None:
    first, second = (rehearsal.environment("mongodb://10.0.0.1:27017") for _ in range(2))
    assert first["MONGODB_URL"] == Secret("mongodb://10.0.0.1:27017")
    assert first["SECRET_KEY"] != second["SECRET_KEY"]
    dotenv.write(project / ".env.test", first)
    assert {n: v.value for n, v in dotenv.read(project / ".env.test").variables.items()} == first


def test_the_example_stands_in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (rehearsal.example() / "Dockerfile").is_file()
    monkeypatch.setattr(rehearsal, "_EXAMPLE", tmp_path / "none")
    with pytest.raises(UsageError) as missing:
        rehearsal.example()
    assert "--app" in missing.value.cure
