"""The service as it stands at Render, held against its blueprint, and `rehost init` with both."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project_here import files, last, typed
from rehost.project import config, dotenv
from rehost.run.secret import Secret
from rehost.source import blueprint, render_live, render_notes, stores
from rehost.source.init_text import fill
from rehost.source.render_export import Group, Live, Store
from render_fake import KEY, FakeRender, group, served, variables, web

FILE = """
services:
  - type: web
    name: api
    env: docker
    plan: starter
    region: oregon
    branch: main
    repo: https://github.com/example/app.git
    dockerfilePath: ./Dockerfile
    dockerContext: ./
    healthCheckPath: /health
    autoDeployTrigger: commit
    domain: api.example.com
    disk: {name: data, mountPath: /data/, sizeGB: 5}
    envVars:
      - {key: SAME, value: same-hunter2}
      - {key: OTHER, value: file-hunter2}
      - {key: GONE, value: gone}
      - {key: TYPED, sync: false}
      - fromGroup: shared
  - {type: worker, name: mailer}
envVarGroups:
  - name: shared
    envVars: [{key: G, value: group-hunter2}]
"""


def live(**changed: Any) -> Live:
    service = (
        web(1, name="api", disk={"id": "dsk-1", "name": "data", "mountPath": "/data", "sizeGB": 5}) | changed
    )
    return Live(
        service,
        {
            "SAME": Secret("same-hunter2"),
            "OTHER": Secret("render-hunter2"),
            "TYPED": Secret("typed-hunter2"),
            "DASHBOARD": Secret("dashboard-hunter2"),
        },
        {"key.pem": Secret("hunter2 file")},
        (Group("shared", "2025", {"G": Secret("group-hunter2")}, {}),),
        ({"name": "api.example.com", "redirectForName": ""},),
        {"id": "dep-1", "status": "live", "commit": {"id": "0123456789abcdef"}},
    )


def test_an_unchanged_service_differs_by_its_variables_alone() -> None:
    found = blueprint.parse(FILE, live=live())
    assert [tuple(each) for each in found.changed] == [
        ("envVars.DASHBOARD", "not there", "set"),
        ("envVars.GONE", "set", "not there"),
        ("envVars.OTHER", "set", "another value"),
    ]
    assert "hunter2" not in f"{found} {found.as_json()}"


@pytest.mark.parametrize(
    ("where", "value", "changed"),
    [
        ("plan", "pro_plus", ("plan", '"starter"', '"pro plus"')),
        ("region", "frankfurt", ("region", '"oregon"', '"frankfurt"')),
        ("healthCheckPath", "/up", ("healthCheckPath", '"/health"', '"/up"')),
        ("healthCheckPath", "", ("healthCheckPath", '"/health"', "none")),
        ("numInstances", 3, ("numInstances", '"1"', '"3"')),
        ("maxShutdownDelaySeconds", 60, ("maxShutdownDelaySeconds", '"30"', '"60"')),
        ("autoscaling", {"enabled": True, "min": 1, "max": 4}, ("scaling", "none", '"1 to 4"')),
        ("disk", {"mountPath": "/data", "sizeGB": 9}, ("disk", '"/data, 5 GB"', '"/data, 9 GB"')),
        ("disk", None, ("disk", '"/data, 5 GB"', "none")),
        (
            "envSpecificDetails",
            {"dockerfilePath": "Dockerfile", "dockerContext": ".", "dockerCommand": "run hunter2"},
            ("dockerCommand", "none", "a command"),
        ),
        (
            "envSpecificDetails",
            {"dockerfilePath": "deploy/Dockerfile", "dockerContext": "."},
            ("dockerfilePath", '"Dockerfile"', '"deploy/Dockerfile"'),
        ),
    ],
)
def test_what_was_changed_in_the_dashboard(where: str, value: object, changed: tuple[str, str, str]) -> None:
    there = live()
    there.service["serviceDetails"][where] = value
    found = blueprint.parse(FILE, live=there)
    assert [tuple(each) for each in found.changed if not each.field.startswith("envVars.")] == [changed]
    assert "hunter2" not in f"{found}"


def test_other_changes() -> None:
    there = live(branch="release", autoDeploy="no", rootDir="backend")
    there = there._replace(
        domains=({"name": "www.example.com"}, {"name": "x.example", "redirectForName": "y"})
    )
    changed = {each.field: tuple(each[1:]) for each in blueprint.parse(FILE, live=there).changed}
    assert {key: value for key, value in changed.items() if not key.startswith("envVars.")} == {
        "branch": ('"main"', '"release"'),
        "rootDir": ("none", '"backend"'),
        "domains": ('"api.example.com"', '"www.example.com"'),
        "autoDeploy": ('"yes"', '"no"'),
    }


def test_what_stands_at_render_counts_and_nothing_of_the_file_vanishes() -> None:
    there = live()
    there.service["serviceDetails"] |= {"plan": "standard", "region": "frankfurt"}
    found = blueprint.parse(FILE, live=there)
    settings = found.settings
    assert (settings.machine, settings.memory, settings.zone) == ("e2-medium", "2GB", "europe-west3-a")
    assert (settings.render, settings.url) == ("srv-a1", "https://api.onrender.com")
    assert (settings.volumes, settings.disk_gb) == (("data:/data",), 5)
    assert {key: value.reveal() for key, value in settings.variables.items()} == {
        "G": "group-hunter2",
        "SAME": "same-hunter2",
        "OTHER": "render-hunter2",
        "TYPED": "typed-hunter2",
        "DASHBOARD": "dashboard-hunter2",
    }
    where = {
        **{each.field: "carried" for each in found.carried},
        **{each.field: "differently" for each in found.differently},
        **{each.field: "left" for each in found.left},
    }
    assert {key: value for key, value in where.items() if "envVar" in key or "secretFiles" in key} == {
        "service.envVars.SAME": "carried",
        "service.envVars.OTHER": "carried",
        "service.envVars.GONE": "left",
        "service.envVars.TYPED": "carried",
        "service.envVars.fromGroup.shared": "carried",
        "envVarGroups.shared.G": "carried",
        "service.envVars.DASHBOARD": "carried",
        "service.secretFiles.key.pem": "carried",
    }
    assert {"service.env", "service.domain", "service.autoDeployTrigger", "services.mailer"} <= set(where)


@pytest.mark.parametrize(
    ("address", "moves"),
    [
        ("srv-1@ssh.oregon.render.com", {"data": "srv-1@ssh.oregon.render.com:/data"}),
        ("", {}),
        ("ssh -p 1 x@y", {}),
        (None, {}),
    ],
)
def test_a_disk_is_moved_from_the_address_that_render_tells(
    address: str | None, moves: dict[str, str]
) -> None:
    there = live()
    there.service["serviceDetails"] |= {"sshAddress": address}
    settings = blueprint.of_live(there).settings
    assert settings.moves == moves
    toml = fill(config.EXAMPLE.read_text(), {("run", "volumes"): [*settings.volumes]}, {}, settings)
    assert {name: str(where) for name, where in config.parse(toml, Path()).moves.items()} == moves


def test_what_was_removed_at_render_is_not_carried_over() -> None:
    there = live(rootDir="")
    there.service["serviceDetails"] |= {"disk": None, "healthCheckPath": ""}
    there = there._replace(domains=(), siblings=({"name": "mailer"}, {"name": "extra", "type": "cron_job"}))
    found = blueprint.parse(FILE, live=there)
    settings = found.settings
    assert (settings.volumes, settings.disk_gb, settings.domain, settings.health) == ((), None, None, None)
    left = {each.field: each.why for each in found.left}
    for key in ("disk", "domain", "healthCheckPath"):
        assert left[f"service.{key}"].startswith("The service has none at Render")
    assert {field for field in left if "mailer" in field or "extra" in field} == {
        "services.mailer",
        "services at Render.extra",
    }


def test_a_service_without_a_file() -> None:
    found = blueprint.of_live(live())
    assert found.changed == ()
    assert (found.settings.app, found.settings.health, found.settings.port) == ("api", "/health", 10000)
    assert found.settings.runtime == "docker"


IMAGE = "ghcr.io/me/api:1.2"


def test_a_service_of_a_prebuilt_image(tmp_path: Path) -> None:
    service = web(1, name="api", env="image", runtime="image", envSpecificDetails={})
    service |= {"imagePath": IMAGE, "registryCredential": {"id": "rgc-1", "name": "hub"}}
    digest = f"sha256:{'a' * 64}"
    there = Live(service, {}, {}, deploy={"image": {"ref": IMAGE, "sha": digest}})
    found = blueprint.of_live(there)
    assert (found.settings.image, found.settings.runtime) == (IMAGE, "image")
    (credential,) = [each for each in found.left if each.field == "service.registryCredential"]
    assert "docker login" in credential.todo
    assert digest in " ".join(render_notes.about(there, tmp_path))
    # What the file says of an image is over when Render builds the service.
    text = f"services: [{{type: web, name: api, runtime: image, image: {{url: '{IMAGE}'}}}}]"
    built = blueprint.parse(text, live=Live(web(1, name="api"), {}, {}))
    assert (built.settings.image, built.settings.runtime) == (None, "docker")
    assert ("service.image" in {each.field for each in built.left}) and built.changed


def test_a_static_site_has_its_rules_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = web(1, name="site", publishPath="dist", buildCommand="", url="https://site.onrender.com")
    site |= {"type": "static_site"}
    site["serviceDetails"] = {"publishPath": "dist", "buildCommand": "", "url": "https://site.onrender.com"}
    fake = FakeRender(services=[site])
    rules = [("rewrite", f"/p{number}", "/index.html", number) for number in range(120, 0, -1)]
    fake.routes["srv-a1"] = [
        {
            "id": f"rdr-{each[3]}",
            "type": each[0],
            "source": each[1],
            "destination": each[2],
            "priority": each[3],
        }
        for each in rules
    ]
    fake.headers["srv-a1"] = [{"id": "hdr-1", "path": "/*", "name": "X-A", "value": "1"}]
    (tmp_path / "dist").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RENDER_API_KEY", KEY)
    with served(fake) as url:
        monkeypatch.setenv("RENDER_HOST", url)
        done = typed("init", "--render", "srv-a1")
    assert done.exit_code == 0, done.output
    dockerfile = (tmp_path / "Dockerfile").read_text()
    assert dockerfile.count("path_regexp r") == 120
    assert "path_regexp r0 ^/p1$" in dockerfile and "path_regexp r119 ^/p120$" in dockerfile
    assert 'X-A "1"' in dockerfile
    # A file with other rules: what Render has counts.
    text = "services: [{type: web, runtime: static, name: site, routes: [{type: rewrite, source: /x, destination: /}]}]"
    there = Live(site, {}, {}, routes=({"type": "redirect", "source": "/a", "destination": "/b"},))
    found = blueprint.parse(text, live=there)
    assert [rule.source for rule in found.settings.routes] == ["/a"]
    assert ("routes", '"rewrite /x /"', '"redirect /a /b"') in found.changed


def test_the_day_on_which_a_service_was_made_says_its_default_versions() -> None:
    there = live(createdAt="2024-05-02T10:00:00Z")
    assert blueprint.parse(FILE, live=there).settings.created == "2024-05-02T10:00:00Z"


KEYS = [
    "id",
    "name",
    "ref",
    "commit",
    "enabled",
    "min",
    "max",
    "port",
    "cidrBlock",
    "mountPath",
    "sizeGB",
    "url",
]
STORES = (
    Store(
        "main",
        "Postgres",
        "dpg-1",
        Secret("postgresql://u:hunter2@dpg-1-a/d"),
        Secret("postgresql://u:hunter2@dpg-1-a.oregon-postgres.render.com/d"),
    ),
    Store(
        "cache",
        "Key Value",
        "red-1",
        Secret("redis://red-1:6379"),
        Secret("rediss://red-1:hunter2@oregon-keyvalue.render.com:6379"),
    ),
)


@pytest.mark.parametrize(
    ("value", "moved", "said"),
    [
        (
            "postgresql://u:hunter2@dpg-1-a/d",
            "postgresql://u:hunter2@dpg-1-a.oregon-postgres.render.com/d",
            "external address of Postgres main",
        ),
        (
            "postgresql+asyncpg://u:hunter2@dpg-1-a/d?ssl=require",
            "postgresql+asyncpg://u:hunter2@dpg-1-a.oregon-postgres.render.com/d?ssl=require",
            "external address of Postgres main",
        ),
        ("postgresql://u:hunter2@dpg-1-a.oregon-postgres.render.com/d", None, ""),
        ("dpg-1-a", None, "by its internal address"),
        ("postgresql://other:hunter2@dpg-1-a/d2", None, "by its internal address"),
        (
            "redis://red-1:6379/0",
            "rediss://red-1:hunter2@oregon-keyvalue.render.com:6379/0",
            "Key Value cache",
        ),
        ("redis://red-1:63790", None, "by its internal address"),
        ("http://inner-x1:10000/path", None, "inner by its private name"),
        ("inner-x1:10000", None, "inner by its private name"),
        ("inner-x1.example.com", None, ""),
        ("postgresql://elsewhere/d", None, ""),
        ("", None, ""),
        ("http://[dpg-1-a", None, "by its internal address"),
    ],
)
def test_internal_addresses(value: str, moved: str | None, said: str) -> None:
    there = live()._replace(
        variables={"A": Secret(value)}, stores=STORES, siblings=({"name": "inner", "slug": "inner-x1"},)
    )
    found = stores.moved(there)["A"]
    assert found.value.reveal() == (value if moved is None else moved)
    assert said in found.how
    assert bool(found.how) == bool(said)
    assert "hunter2" not in found.how


def test_the_port_that_is_open() -> None:
    service = web(1, openPorts=[{"port": 53, "protocol": "UDP"}, {"port": 8000, "protocol": "TCP"}])
    assert render_live.ports(service) == (8000,)
    assert render_live.ports({}) == ()
    assert render_live.url_of(web(1, url="http://inner:10000")) is None
    assert render_live.old_addresses({}) == ()


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("a/.:-", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from([*web(1), "imagePath", "registryCredential", "x"]), JSON, max_size=4),
    st.dictionaries(
        st.sampled_from([*web(1)["serviceDetails"], "disk", "autoscaling", "schedule", "x"]), JSON, max_size=4
    ),
    JSON,
    JSON,
)
def test_whatever_the_api_says_is_no_traceback(
    service: dict[str, Any], details: dict[str, Any], deploy: Any, domain: Any
) -> None:
    there = live(**{"serviceDetails": web(1)["serviceDetails"] | details, **service, "type": "web_service"})
    items = [each for each in (deploy, domain) if isinstance(each, dict)]
    there = there._replace(
        domains=tuple(items), siblings=tuple(items), deploy=deploy if isinstance(deploy, dict) else None
    )
    for found in (blueprint.of_live(there), blueprint.parse(FILE, "api", live=there)):
        told = [each[0] for each in (*found.carried, *found.differently, *found.left)]
        assert len(told) == len(set(told))
        assert all(isinstance(note, str) and note for note in render_notes.about(there, Path()))
        assert "hunter2" not in f"{found}"


# -- rehost init as it is typed ---------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "api"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RENDER_API_KEY", KEY)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture
def fake() -> FakeRender:
    return FakeRender(
        services=[
            web(1, name="api", plan="standard"),
            web(2, name="mailer", type="background_worker"),
            web(3, name="shop", repo="https://github.com/example/shop"),
        ],
        variables={
            "srv-a1": variables(
                SAME="same-hunter2", OTHER="render-hunter2", TYPED="typed-hunter2", DASHBOARD="dash-hunter2"
            ),
            "srv-a3": variables(API_URL="https://api.onrender.com/v2", NAME="shop"),
        },
        files={
            "srv-a1": [{"name": "key.pem", "content": "hunter2 file\n"}, {"name": "../evil", "content": "x"}]
        },
        domains={"srv-a1": [{"name": "api.example.com", "redirectForName": ""}]},
        deploys={"srv-a1": [{"status": "live", "commit": {"id": "0123456789abcdef"}}]},
        groups=[group(1, "2025", ["srv-a1"], G="group-hunter2") | {"name": "shared"}],
    )


@pytest.fixture
def host(fake: FakeRender, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served(fake) as address:
        monkeypatch.setenv("RENDER_HOST", address)
        yield address


def test_init_reads_render(here: Path, host: str) -> None:
    (here / "render.yaml").write_text(FILE)
    done = typed("init", "--callers", "--render")
    assert done.exit_code == 0, done.output
    told = done.output
    assert "Changed at Render, and not in render.yaml:" in told
    assert 'plan: "starter" in render.yaml, "standard" at Render' in told
    assert "envVars.DASHBOARD: not there in render.yaml, set at Render" in told
    assert "web shop at Render has the app's old address in API_URL" in told
    assert "hunter2" not in told
    project = config.load(here)
    assert (project.source.render, project.source.url) == ("srv-a1", "https://api.onrender.com")
    assert (project.run.memory, project.domain.name) == (2 * 1024**3, "api.example.com")
    assert set(project.env.required) == {"SAME", "OTHER", "TYPED", "DASHBOARD", "G"}
    env = here / ".env.prod"
    assert dotenv.read(env).variables["DASHBOARD"].value.reveal() == "dash-hunter2"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    key = here / ".rehost" / "secret-files" / "key.pem"
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("hunter2 file\n", 0o600)
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert [path.name for path in key.parent.iterdir()] == ["key.pem"]
    assert "service.secretFiles.../evil: No file of the machine is to have this name." in told
    assert not list(here.parent.rglob("evil"))
    journal = "".join(path.read_text() for path in (here / ".rehost" / "journal").iterdir())
    assert "hunter2" not in journal
    assert "carried over: service.secretFiles.key.pem" in journal
    assert project.env.secret_files == (".rehost/secret-files/key.pem",)
    before = files(here)
    again = typed("init", "--render", "srv-a1", "--json")
    assert again.exit_code == 0
    ending = last(again)
    assert ending["written"] is False
    assert {"field": "plan", "file": '"starter"', "there": '"standard"'} in ending["changed"]
    assert "hunter2" not in again.output
    assert files(here) == before


def test_a_key_and_a_blueprint_are_enough(here: Path, host: str, fake: FakeRender) -> None:
    (here / "render.yaml").write_text(FILE)
    done = typed("init")
    assert done.exit_code == 0, done.output
    assert config.load(here).source.render == "srv-a1"
    assert not any("srv-a3" in each for each in fake.asked)


def test_a_key_that_does_not_know_the_service_leaves_the_file(here: Path, host: str) -> None:
    (here / "render.yaml").write_text("services: [{type: web, name: unknown, envVars: [{key: A, value: b}]}]")
    done = typed("init")
    assert done.exit_code == 0, done.output
    assert "render.yaml was not compared with Render" in done.output
    assert 'no services are called "unknown"' in done.output
    assert config.load(here).source.render is None


def test_a_key_alone_does_not_ask_render(here: Path, host: str, fake: FakeRender) -> None:
    assert typed("init").exit_code == 0
    assert fake.asked == []


def test_the_service_has_another_name_than_in_the_file(here: Path, host: str) -> None:
    (here / "render.yaml").write_text(FILE.replace("name: api", "name: renamed"))
    done = typed("init", "--render", "srv-a1")
    assert done.exit_code == 0, done.output
    assert config.load(here).app == "api"


def test_the_file_describes_other_services(here: Path, host: str) -> None:
    two = "services: [{type: web, name: one, plan: pro}, {type: web, name: two, plan: free}]"
    (here / "render.yaml").write_text(two)
    done = typed("init", "--render", "api")
    assert done.exit_code == 0, done.output
    assert "render.yaml: It describes other services, and none called api." in done.output
    assert config.load(here).run.memory == 2 * 1024**3
    (here / "rehost.toml").unlink()
    done = typed("init", "--render", "api", "--service", "two")
    assert '  plan: "free" in render.yaml, "standard" at Render' in done.output
    assert "services.one" in done.output


def test_a_service_that_the_file_names_by_its_environment_is_compared(here: Path, host: str) -> None:
    (here / "render.yaml").write_text(
        "projects: [{name: p, environments: [{name: live, services: [{type: web, name: api, plan: pro}]},"
        " {name: test, services: [{type: web, name: api}]}]}]"
    )
    done = typed("init", "--service", "p/live/api")
    assert done.exit_code == 0, done.output
    assert '  plan: "pro" in render.yaml, "standard" at Render' in done.output


def test_secret_files_keep_what_is_there_and_stay_out_of_git(here: Path, host: str) -> None:
    subprocess.run(["git", "init", "-q", str(here)], check=True)
    (here / ".gitignore").write_text(".env*\n")
    folder = here / ".rehost" / "secret-files"
    folder.mkdir(parents=True)
    (here / ".rehost" / ".gitignore").write_text("journal\n")
    (folder / "key.pem").write_text("mine\n")
    done = typed("init", "--render", "api")
    assert done.exit_code == 3, done.output
    assert "echo '.rehost/' >> .gitignore" in done.output
    assert not (here / ".env.prod").exists()
    (here / ".gitignore").write_text(".env*\n.rehost/\n")
    done = typed("init", "--render", "api")
    assert done.exit_code == 0
    assert ".rehost/secret-files/key.pem has another content than at Render" in done.output
    assert (folder / "key.pem").read_text() == "mine\n"


def test_git_must_not_see_the_values(here: Path, host: str) -> None:
    subprocess.run(["git", "init", "-q", str(here)], check=True)
    before = files(here)
    done = typed("init", "--render", "api")
    assert done.exit_code == 3, done.output
    assert "echo '.env.prod' >> .gitignore" in done.output
    assert "hunter2" not in done.output
    assert files(here) == before
    (here / ".gitignore").write_text(".env.prod\n")
    assert typed("init", "--render", "api").exit_code == 0
    seen = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(seen.stdout.split()[1::2]) == [".gitignore", "Dockerfile", "rehost.toml"]


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("--render", "nix"), 2, 'no services are called "nix"'),
        (("--render", "srv-nix"), 1, "no such thing at Render"),
        (("--render", "mailer"), 2, "a worker service answers no HTTP"),
        (("--render",), 2, "2 of the 3 services"),
        (("--callers",), 2, "Add --render"),
    ],
)
def test_what_cannot_be_done(
    here: Path, host: str, words: tuple[str, ...], exit_code: int, said: str
) -> None:
    before = files(here)
    done = typed("init", *words)
    assert done.exit_code == exit_code, done.output
    assert said in done.output
    assert "Traceback" not in done.output
    assert files(here) == before


def test_without_a_key(here: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RENDER_API_KEY")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    done = typed("init", "--render", "api")
    assert done.exit_code == 2
    assert "export RENDER_API_KEY" in done.output
