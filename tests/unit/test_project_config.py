"""rehost.toml: what it says arrives, and every mistake is named with its line, its key and the cure."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehost.project.config import EXAMPLE, NAMED, Gce, Host, Project, known_keys, load, parse
from rehost.project.mistakes import ConfigError
from rehost.project.sizes import MB
from rehost.project.toml_lines import key_lines, line_of
from rehost.run.errors import UsageError

SMALLEST = 'app = "a"\n[machine]\nprovider = "gce"\nzone = "us-west1-a"\n'
HOST = 'app = "a"\n[machine]\nprovider = "host"\naddress = "203.0.113.10"\n'
VOLUME = SMALLEST + '[run]\nvolumes = ["data:/data"]\n[moves]\n'
SERVICE = SMALLEST + '[services.db]\nimage = "a:1"\n[moves]\n'


def test_the_smallest_file_has_the_defaults() -> None:
    project = parse(SMALLEST, Path("/srv/a"))
    machine = project.machine
    assert isinstance(machine, Gce)
    assert (machine.type, machine.disk_gb, machine.disk_type, machine.image) == (
        "e2-micro", 20, "pd-standard", "debian-12"
    )  # fmt: skip
    assert (machine.project, machine.ssh_sources) == (None, ("0.0.0.0/0",))
    run = project.run
    assert (run.port, run.health, run.memory, run.stop_grace, run.keep) == (8080, "/", 400 * MB, 30, 5)
    assert run.health_deadline == 120
    assert (project.env.files, project.env.required) == ((".env.prod",), ())
    assert (project.source.blueprint, project.domain.name, project.health_host) == (None, None, "localhost")
    assert project.directory == Path("/srv/a")
    assert project.context == Path("/srv/a")
    assert project.dockerfile == Path("/srv/a/Dockerfile")
    assert project.env_files == (Path("/srv/a/.env.prod"),)


def test_a_host_has_an_address_and_no_zone() -> None:
    machine = parse(HOST + 'user = "admin"\nport = 2222\n', Path()).machine
    assert machine == Host(provider="host", address="203.0.113.10", user="admin", port=2222)


def test_a_project_cannot_be_changed() -> None:
    project = parse(SMALLEST, Path())
    with pytest.raises(AttributeError):
        project.run.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "accepted", "refused"),
    [
        ("2xx", [200, 204, 299], [199, 300, 404, 500]),
        ("200", [200], [201]),
        ("200-399", [200, 302, 399], [400]),
    ],
)
def test_health_status(written: str, accepted: list[int], refused: list[int]) -> None:
    statuses = parse(SMALLEST + f'[run]\nhealth_status = "{written}"\n', Path()).run.health_status
    assert all(status in statuses for status in accepted)
    assert not any(status in statuses for status in refused)
    assert str(statuses) == written


def test_the_health_gate_asks_under_the_domains_name_unless_told() -> None:
    named = SMALLEST + '[domain]\nname = "api.example.com"\n'
    assert parse(named, Path()).health_host == "api.example.com"
    assert parse(named + '[run]\nhealth_host = "internal"\n', Path()).health_host == "internal"


# Each: the text, and file line, key, and a piece of the cure that the error must name.
MISTAKES: list[tuple[str, int | None, str, str]] = [
    (SMALLEST.replace('"a"', '"Content_API"'), 1, "app", "lower-case letters"),
    (SMALLEST.replace('"a"', f'"{"a" * 43}"'), 1, "app", "at most 42"),
    (SMALLEST.replace('"a"', '"a-"'), 1, "app", "ending with a letter or digit"),
    (SMALLEST.replace('app = "a"', "app = 3"), 1, "app", "a string in quotes"),
    (SMALLEST.replace('app = "a"\n', ""), None, "app", 'app = "content-api"'),
    ('app = "a"\n', None, "machine", "[machine]"),
    (SMALLEST.replace('provider = "gce"\n', ""), 2, "machine.provider", 'provider = "gce"'),
    (SMALLEST.replace('"gce"', '"aws"'), 3, "machine.provider", "gce"),
    (SMALLEST.replace('zone = "us-west1-a"\n', ""), 2, "machine.zone", "us-west1-a"),
    (SMALLEST.replace("us-west1-a", "us-west1"), 4, "machine.zone", "us-west1-a"),
    (SMALLEST.replace("us-west1-a", "Oregon"), 4, "machine.zone", "looks like"),
    (SMALLEST + 'address = "203.0.113.1"\n', 5, "machine.address", "change the provider"),
    (SMALLEST + 'memory = "1GB"\n', 5, "machine.memory", "[run]"),
    (SMALLEST + 'disc = "20GB"\n', 5, "machine.disc", '"disk"'),
    (SMALLEST + 'disk = "20"\n', 5, "machine.disk", "unit"),
    (SMALLEST + 'disk = "5GB"\n', 5, "machine.disk", "at least 10"),
    (SMALLEST + "disk = 20\n", 5, "machine.disk", "unit"),
    (SMALLEST + 'disk_type = "ssd"\n', 5, "machine.disk_type", "pd-ssd"),
    (SMALLEST + 'type = "small"\n', 5, "machine.type", "e2-micro"),
    (SMALLEST + 'project = "My Project"\n', 5, "machine.project", "ID"),
    (SMALLEST + 'ssh_sources = ["everybody"]\n', 5, "machine.ssh_sources[0]", "203.0.113.0/24"),
    (SMALLEST + 'ssh_sources = "0.0.0.0/0"\n', 5, "machine.ssh_sources", "a list"),
    (HOST + 'zone = "us-west1-a"\n', 5, "machine.zone", "change the provider"),
    (HOST.replace("203", "admin@203"), 4, "machine.address", "user and port have their own keys"),
    (SMALLEST + "[runn]\nport = 80\n", 5, "runn", '"run"'),
    (SMALLEST + "[run]\n\n# port\nprot = 80\n", 8, "run.prot", '"port"'),
    (SMALLEST + '[run]\nport = "8080"\n', 6, "run.port", "without quotes"),
    (SMALLEST + "[run]\nport = 70000\n", 6, "run.port", "65535"),
    (SMALLEST + "[run]\nport = true\n", 6, "run.port", "whole number"),
    (SMALLEST + '[run]\nhealth = "health"\n', 6, "run.health", '"/health"'),
    (SMALLEST + '[run]\nhealth = "http://localhost/health"\n', 6, "run.health", "path alone"),
    (SMALLEST + '[run]\nhealth = "/a b"\n', 6, "run.health", "encode"),
    (SMALLEST + '[run]\nhealth_status = "ok"\n', 6, "run.health_status", "200-399"),
    (SMALLEST + '[run]\nhealth_status = "399-200"\n', 6, "run.health_status", "2xx"),
    (SMALLEST + "[run]\nhealth_status = 200\n", 6, "run.health_status", '"200"'),
    (SMALLEST + '[run]\nmemory = "400"\n', 6, "run.memory", "400MB"),
    (SMALLEST + '[run]\nmemory = "4MB"\n', 6, "run.memory", "6MB"),
    (SMALLEST + '[run]\nstop_grace = "30"\n', 6, "run.stop_grace", "30s"),
    (SMALLEST + "[run]\nstop_grace = 30\n", 6, "run.stop_grace", "30s"),
    (SMALLEST + '[run]\nhealth_deadline = "0s"\n', 6, "run.health_deadline", "1s"),
    (SMALLEST + "[run]\nkeep = 0\n", 6, "run.keep", "from 1 to 100"),
    (SMALLEST + '[run]\nvolumes = "data:/data"\n', 6, "run.volumes", "a list"),
    (SMALLEST + '[run]\nvolumes = ["data"]\n', 6, "run.volumes[0]", "data:/data"),
    (SMALLEST + '[run]\nvolumes = ["Data:/data"]\n', 6, "run.volumes[0]", "data:/data"),
    (SMALLEST + '[run]\nvolumes = ["/srv/data:/data"]\n', 6, "run.volumes[0]", "data:/data"),
    (SMALLEST + '[run]\nvolumes = ["data:data"]\n', 6, "run.volumes[0]", '"/data"'),
    (SMALLEST + '[run]\nvolumes = ["data:/"]\n', 6, "run.volumes[0]", '"/data"'),
    (SMALLEST + '[run]\nvolumes = ["data:/srv/../etc"]\n', 6, "run.volumes[0]", '"/data"'),
    (SMALLEST + '[run]\nvolumes = ["data:/data:ro"]\n', 6, "run.volumes[0]", '"/data"'),
    (SMALLEST + '[run]\nvolumes = ["a:/data", "b:/data"]\n', 6, "run.volumes", "a path of its own"),
    (SMALLEST + '[build]\non = "there"\n', 6, "build.on", 'one of "machine", "here"'),
    (SMALLEST + '[build]\non = "cloud"\n', 6, "build.on", 'one of "machine", "here"'),
    (SMALLEST + '[build]\nimage = "Ghcr.io/Me"\n', 6, "build.image", "ghcr.io/me/app:1.2"),
    (SMALLEST + '[build]\nimage = "me/app"\non = "here"\n', 7, "build.on", "take out on"),
    (SMALLEST + '[build]\ndockerfile = "/etc/Dockerfile"\n', 6, "build.dockerfile", "Dockerfile"),
    (SMALLEST + '[build]\nargs = { "A-B" = "1" }\n', 6, "build.args.A-B", "letters, digits"),
    (SMALLEST + "[build]\n[build.args]\nA = 1\n", 7, "build.args.A", "a string in quotes"),
    (SMALLEST + '[env]\nrequired = [\n  "A",\n  "B-C",\n]\n', 6, "env.required[1]", "letters, digits"),
    (SMALLEST + '[env]\nfiles = [".env", ".env"]\n', 6, "env.files", "remove one"),
    (SMALLEST + '[env]\nDATABASE_URL = "s3cret-value"\n', 6, "env.DATABASE_URL", "known here: files"),
    (SMALLEST + "[processes]\nworker = 1\n", 6, "processes.worker", "a table"),
    (SMALLEST + 'processes = ["worker"]\n', 5, "machine.processes", "the top of the file"),
    (SMALLEST + "[processes.worker]\n", 5, "processes.worker.command", 'command = "python -m app.worker"'),
    (SMALLEST + '[processes.Worker]\ncommand = "a"\n', 5, "processes.Worker", "lower-case"),
    (SMALLEST + '[processes.web]\ncommand = "a"\n', 5, "processes.web", "[run]"),
    (SMALLEST + '[processes.w]\ncommand = "a \'b"\n', 6, "processes.w.command", "close it"),
    (SMALLEST + '[processes.w]\ncommand = " "\n', 6, "processes.w.command", "app.worker"),
    (SMALLEST + '[processes.w]\ncommand = "a"\nmemry = "1GB"\n', 7, "processes.w.memry", '"memory"'),
    (SMALLEST + '[processes.w]\ncommand = "a"\nport = 1\n', 7, "processes.w.port", "[run]"),
    (SMALLEST + '[build]\ncommand = "a"\n', 6, "build.command", "[processes.NAME]"),
    (
        SMALLEST + '[processes.w]\ncommand = "a"\nschedule = "0 3 * * *"\n',
        7,
        "processes.w.schedule",
        "[jobs.NAME]",
    ),
    (SMALLEST + "[services.redis]\n", 5, "services.redis.image", 'image = "redis:7"'),
    (SMALLEST + '[services.redis]\nimage = "redis"\n', 6, "services.redis.image", '"redis:7"'),
    (SMALLEST + '[services.redis]\nimage = "Redis:7"\n', 6, "services.redis.image", "looks like"),
    (SMALLEST + '[services.web]\nimage = "redis:7"\n', 5, "services.web", "[run]"),
    (SMALLEST + '[services.r]\nimage = "redis:7"\nenv = "A"\n', 7, "services.r.env", "a list"),
    (SMALLEST + '[jobs.n]\ncommand = "a"\n', 5, "jobs.n.schedule", 'schedule = "0 3 * * *"'),
    (SMALLEST + '[jobs.n]\ncommand = "a"\nschedule = "daily"\n', 7, "jobs.n.schedule", '"0 3 * * *"'),
    (SMALLEST + '[jobs.n]\ncommand = "a"\nschedule = "0 3 * * 9"\n', 7, "jobs.n.schedule", "from 0 to 7"),
    (
        SMALLEST + '[jobs.n]\ncommand = "a"\nschedule = "0 3 * * *"\nmax_run = 60\n',
        8,
        "jobs.n.max_run",
        "30s",
    ),
    (SMALLEST + '[domain]\nname = "https://api.example.com"\n', 6, "domain.name", "no scheme"),
    (SMALLEST + '[moves]\ndata = "ssh.example.com:/srv"\n', 6, "moves.data", "a volume of [run]"),
    (VOLUME + 'dta = "h:/srv"\n', 8, "moves.dta", '"data"'),
    (VOLUME + 'data = "OLD"\n', 8, "moves.data", "write the directory"),
    (SERVICE + 'db = "h:/srv"\n', 8, "moves.db", "name of the variable"),
    (SERVICE + 'db = "x://u:s3cret-value@h/d"\n', 8, "moves.db", "write its name"),
    (SERVICE + 'db = "s3cret-value"\n', 8, "moves.db", "neither"),
    (SMALLEST + 'domain = "api.example.com"\n', 5, "machine.domain", "the top of the file"),
    ('domain = "api.example.com"\n' + SMALLEST, 1, "domain", "a table"),
    (SMALLEST + '[source]\nurl = "https://u:s3cret-value@example.com"\n', 6, "source.url", "without"),
    (SMALLEST + '[source]\nurl = "s3cret-value"\n', 6, "source.url", "https://"),
    (SMALLEST + 'directory = "/etc"\n', 5, "machine.directory", "known here"),
    ('directory = "/etc"\n' + SMALLEST, 1, "directory", "known here"),
    (SMALLEST + "[run]\nport = eighty\n", 6, "run.port"[4:], "quotes"),
    (SMALLEST + "[run\nport = 1\n", 5, "", "not valid TOML"),
    (SMALLEST + '[run]\nhealth = "/health\n', 6, "health", "not valid TOML"),
    (SMALLEST + "[run]\nport = 1\nport = 2\n", 7, "port", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "line", "key", "cure"), MISTAKES)
def test_each_mistake_names_file_line_key_and_cure(
    text: str, line: int | None, key: str, cure: str, tmp_path: Path
) -> None:
    (tmp_path / "rehost.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    error = caught.value
    assert [(one.line, one.key) for one in error.mistakes] == [(line, key)]
    file = f"{tmp_path}/rehost.toml"
    said = str(error)
    assert said.startswith(f"{file}:{line}: {key}" if line else f"{file}: {key}")
    assert cure.lower() in said.lower()
    assert error.cure
    assert "s3cret-value" not in said
    assert error.exit == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = 'app = "A"\n[machine]\nprovider = "gce"\nzoen = "us-west1-a"\n[run]\nport = "1"\nmemry = "1GB"\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, Path())
    keys = [one.key for one in caught.value.mistakes]
    assert keys == ["app", "machine.zone", "machine.zoen", "run.port", "run.memry"]
    said = str(caught.value)
    for place in ("rehost.toml:1: app", "rehost.toml:4: machine.zoen", "rehost.toml:7: run.memry"):
        assert place in said


def test_no_file_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rehost init"):
        load(tmp_path)


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "rehost.toml").write_bytes(b'app = "a"\n# \xff\n')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.mistakes[0].line == 2


def test_a_directory_in_its_place_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "rehost.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "rehost.toml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load(tmp_path).app == "a"
    (tmp_path / "rehost.toml").write_bytes((SMALLEST + "prot = 1\n").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.mistakes[0].line == 5


# The example is the reference page: it has every key, and nothing but the keys.


def _uncommented(text: str) -> str:
    return "\n".join(re.sub(r"^#(?=[\w\[])", "", line) for line in text.splitlines())


def _example_tables() -> dict[tuple[str, ...], set[str]]:
    first, host = EXAMPLE.read_text().split("# A machine that stands already, instead")
    tables: dict[tuple[str, ...], set[str]] = {(): set()}
    for part, provider in ((_uncommented(first), "gce"), (_uncommented(host.split("\n", 1)[1]), "host")):
        for key, value in tomllib.loads(part).items():
            tables[()].add(key)
            if isinstance(value, dict) and key != "moves":  # its keys are names of volumes and services
                if key in NAMED:
                    tables[key, "NAME"] = {inner for one in value.values() for inner in one}
                    continue
                path = ("machine", provider) if key == "machine" else (key,)
                tables[path] = set(value)
    return tables


def test_the_example_has_every_key_of_the_schema_and_no_other() -> None:
    assert _example_tables() == {path: set(keys) for path, keys in known_keys().items()}


def test_every_key_of_the_example_is_explained() -> None:
    lines = EXAMPLE.read_text().splitlines()
    told_by_name = {"provider", "type", "dockerfile", "name", "port"}
    for number, line in enumerate(lines):
        key = re.match(r"#?(\w+) = ", line)
        if key and key[1] not in told_by_name:
            assert lines[number - 1].startswith("# "), line


def test_the_example_and_its_host_variant_load() -> None:
    text = EXAMPLE.read_text()
    assert parse(text, Path()).app == "content-api"
    first, host = text.split("# A machine that stands already, instead")
    before, rest = first.split("# The machine that the app moves to.")
    after = rest[rest.index("# How the image is built.") :]
    machine = _uncommented(host.split("\n", 1)[1])
    assert isinstance(parse(f"{before}\n{after}\n{machine}", Path()).machine, Host)


def test_the_example_shows_the_defaults_where_it_says_nothing_of_its_own() -> None:
    example, plain = parse(EXAMPLE.read_text(), Path()), parse(SMALLEST, Path())
    own = ("health", "health_host", "volumes", "before_release")
    said = {name: getattr(example.run, name) for name in own}
    assert example.run == plain.run._replace(**said)
    assert isinstance(plain.machine, Gce)
    assert isinstance(example.machine, Gce)
    assert example.machine == plain.machine._replace(project=example.machine.project)
    assert example.build == plain.build._replace(args=example.build.args, allow=example.build.allow)


def test_the_reference_page_holds_the_example_word_for_word() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rehost-toml.md").read_text()
    assert f"```toml\n{EXAMPLE.read_text()}```\n" in page


# Where keys stand.

_NAMES = st.sampled_from(["a", "b-c", "D_1", '"q.x"', "'l #'", '"e\\"s"'])
_VALUES = st.sampled_from(
    [
        "1",
        '"x # [ = "',
        "'y'",
        '"""m\nn = 3\n"""',
        "'''\n[no]\n'''",
        "[\n  1, # ]\n  2,\n]",
        '{ k = "}" }',
        "1.5 # c",
    ]
)


@settings(deadline=None)
@given(st.lists(st.tuples(_NAMES, _NAMES, _VALUES), max_size=6, unique_by=lambda one: (one[0], one[1])))
def test_lines_are_found_whatever_the_values_look_like(rows: list[tuple[str, str, str]]) -> None:
    text = "# head\n\n"
    expected: dict[tuple[str, ...], int] = {}
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, key, value in rows:
        tables.setdefault(table, []).append((key, value))
    for table, entries in tables.items():
        name = next(iter(tomllib.loads(f"{table}=1")))
        text += f" [ {table} ] # t\n"
        expected[name,] = text.count("\n")
        for key, value in entries:
            inner = next(iter(tomllib.loads(f"{key}=1")))
            expected[name, inner] = text.count("\n") + 1
            text += f"{key} = {value}\n"
    tomllib.loads(text)
    assert key_lines(text) == expected


def test_dotted_keys_and_tables_of_tables() -> None:
    lines = key_lines("a.b.c = 1\n[x.y]\nz = { k = 1 }\n[[l]]\nm = 1\n[[l]]\nm = 2\n")
    assert lines["a", "b"] == 1
    assert lines["x",] == 2
    assert line_of(lines, ("x", "y", "z", "k")) == 3
    assert line_of(lines, ("none",)) is None


def test_known_keys_are_those_of_the_model() -> None:
    assert known_keys()[()] == frozenset(Project._fields) - {"directory"}


@pytest.mark.parametrize("provider", ["[]", "{}", "1", "1979-05-27"])
def test_a_provider_of_another_type_is_no_traceback(provider: str) -> None:
    with pytest.raises(ConfigError, match="provider"):
        parse(f'app = "a"\n[machine]\nprovider = {provider}\n', Path())


_ANY = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 99999), st.text('a/.-:@ "1\\', max_size=9)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.sampled_from([(p, k) for p, keys in known_keys().items() for k in sorted(keys)]), _ANY)
def test_any_value_of_any_key_is_taken_or_named(place: tuple[tuple[str, ...], str], value: object) -> None:
    """A value of any type ends in a project or in a mistake at that key, never in another error."""
    path, key = place
    text = SMALLEST if "host" not in path else HOST
    written = f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
    text = re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
    if not path:
        text = re.sub(r"\[machine\](.|\n)*", "", text) if key == "machine" else text
        text = written + text
    else:
        text += written if path[0] == "machine" else f"[{'.'.join(path).lower()}]\n{written}"
    try:
        parse(text, Path())
    except ConfigError as wrong:
        named = ".".join((*path[:1], "name" if "NAME" in path else key))
        assert all(one.key.startswith(named) for one in wrong.mistakes if one.line), wrong


def test_the_mistakes_that_the_reference_page_shows_are_those_that_are_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rehost-toml.md").read_text()
    text = EXAMPLE.read_text().replace('disk = "20GB"', 'disc = "20GB"').replace('"400MB"', '"400"')
    with pytest.raises(ConfigError) as caught:
        parse(text, Path())
    assert f"```\n{caught.value}\n```\n" in page
