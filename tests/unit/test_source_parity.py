"""What an app relied on at Render: each row, from the sign of it in the sources to what is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from rehost.project import dockerfile
from rehost.project.config import parse
from rehost.run.findings import Finding
from rehost.source import parity, parity_blueprint
from rehost.source.contract_files import Sources
from rehost.source.yaml_text import Mapped

TOML = """app = "shop"
[machine]
provider = "host"
address = "h"
[run]
health = "/health"
"""
DOMAIN = '[domain]\nname = "api.example.com"\n'
SOURCE = '[source]\nurl = "https://shop.onrender.com"\n'
BLUEPRINT = """
services:
  - type: web
    name: Shop
    runtime: docker
    plan: free
    numInstances: 2
    preDeployCommand: migrate
    initialDeployHook: seed
    disk: {name: d, mountPath: /data}
  - {type: cron, name: nightly, schedule: "0 3 * * *"}
  - {type: worker, name: mailer}
  - {type: pserv, name: search}
  - {type: redis, name: cache}
"""


def findings(
    directory: Path,
    files: Mapping[str, str],
    toml: str = TOML + DOMAIN,
    given: tuple[str, ...] = (),
    image: str = "FROM python:3.11\n",
    atlas: tuple[str, ...] = (),
) -> list[Finding]:
    project = parse(toml, directory)
    services: tuple[Mapped, ...] = ()
    if "render.yaml" in files:
        (directory / "render.yaml").write_text(files["render.yaml"])
        services = parity_blueprint.services(directory / "render.yaml", "shop")
    texts = {name: text.encode() for name, text in files.items()}
    read = dockerfile.parse(image, args=project.build.args)
    return parity.findings(
        parity.App(project, Sources(directory, texts), read, frozenset(given), services, atlas)
    )


def test_an_app_that_relied_on_nothing(tmp_path: Path) -> None:
    assert findings(tmp_path, {"main.py": "app = 1\n", "README.md": "uvicorn, ProxyFix, 10000"}) == []


@pytest.mark.parametrize(
    ("file", "text", "severity", "what", "where"),
    [
        (
            "main.js",
            "app.listen(process.env.PORT || 3000)\n// port 10000\nx.listen(10000)",
            "warning",
            "port 10000",
            ":3",
        ),
        ("a.py", "\nos.environ['RENDER_SERVICE_NAME']", "ok", "RENDER_SERVICE_NAME=shop (a.py:2)", "env"),
        (
            "a.py",
            "os.environ['RENDER_EXTERNAL_URL']",
            "ok",
            "RENDER_EXTERNAL_URL=https://api.example.com",
            "env",
        ),
        ("a.py", "os.environ['RENDER_INSTANCE_ID']", "warning", "has no value for it", "a.py:1"),
        (
            "a.py",
            "open('/etc/secrets/key.pem')",
            "warning",
            "/etc/secrets/key.pem is a secret file",
            "a.py:1",
        ),
        ("Procfile", "web: uvicorn app:app", "warning", "X-Forwarded-For", "Procfile:1"),
        ("app.js", "app.set('trust proxy', 3)", "warning", "several proxies", "app.js:1"),
        ("app.py", "ProxyFix(app.wsgi_app, x_for=2)", "warning", "several proxies", "app.py:1"),
        (
            "app.js",
            "req.headers['cf-connecting-ip']",
            "warning",
            "in front of Render sets this header",
            "app.js:1",
        ),
        (
            "settings.py",
            "\nSECURE_SSL_REDIRECT = True",
            "warning",
            "redirects http to https",
            "settings.py:2",
        ),
        ("production.rb", "config.force_ssl = true", "warning", "redirects http to https", "production.rb:1"),
        ("db.py", "URL = 'sqlite:///./app.db'", "warning", "ends with each release", "db.py:1"),
        ("up.js", "multer({ dest: 'uploads/' })", "warning", "ends with each release", "up.js:1"),
    ],
)
def test_each_sign(tmp_path: Path, file: str, text: str, severity: str, what: str, where: str) -> None:
    (found,) = [one for one in findings(tmp_path, {file: text}) if what in one.what]
    assert found.severity == severity
    assert where in found.where
    assert bool(found.cure) is (severity == "warning")


@pytest.mark.parametrize(
    ("files", "toml", "given"),
    [
        ({"main.js": "x.listen(10000)"}, TOML + "port = 10000\n", ()),
        ({"a.py": "os.environ['RENDER_INSTANCE_ID']"}, TOML, ("RENDER_INSTANCE_ID",)),
        ({"Procfile": "web: uvicorn app:app --forwarded-allow-ips '*'"}, TOML, ()),
        ({"Procfile": "web: uvicorn app:app"}, TOML, ("FORWARDED_ALLOW_IPS",)),
        ({"app.js": "app.set('trust proxy', 1)"}, TOML, ()),
        ({"settings.py": "SECURE_SSL_REDIRECT = True"}, TOML + 'health_status = "200-399"\n', ()),
        ({"db.py": "URL = 'sqlite:///./app.db'"}, TOML + 'volumes = ["data:/data"]\n', ()),
        ({"a.py": "open('/etc/secrets/key')"}, TOML + 'volumes = ["s:/etc/secrets"]\n', ()),
        ({"a.py": "open('/etc/secrets/key')"}, TOML + '[env]\nsecret_files = ["keys/key"]\n', ()),
        ({"a.py": "os.listdir('/etc/secrets')"}, TOML + '[env]\nsecret_files = ["keys/key"]\n', ()),
    ],
)
def test_what_is_taken_care_of_is_not_told(
    tmp_path: Path, files: Mapping[str, str], toml: str, given: tuple[str, ...]
) -> None:
    assert findings(tmp_path, files, toml, given) == []


def test_without_a_domain_the_public_address_is_unknown(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"a.py": "os.environ['RENDER_EXTERNAL_HOSTNAME']"}, TOML)
    assert found.cure.startswith("Name the domain under [domain]")


def test_build_arguments(tmp_path: Path) -> None:
    toml = TOML + "[build]\nargs = { API_KEY = 'x', VERSION = '1' }\n"
    image = "FROM a\nARG API_KEY\nARG VERSION\nARG DATABASE_URL\nARG MODE=dev\nARG OTHER\n"
    found = findings(tmp_path, {}, toml, ("DATABASE_URL", "MODE", "VERSION"), image)
    assert [one.what.partition(":")[0] for one in found] == ["API_KEY", "DATABASE_URL", "MODE"]
    assert "kept the secret" in found[1].what
    assert "'dev'" in found[2].what


def test_what_a_bundler_bakes_in(tmp_path: Path) -> None:
    files = {"a.ts": "process.env.NEXT_PUBLIC_API; import.meta.env.VITE_X"}
    given = ("NEXT_PUBLIC_API", "VITE_X", "VITE_UNUSED")
    declared, baked = findings(tmp_path, files, given=given, image="FROM a\nARG VITE_X\n")
    assert declared.what.startswith("VITE_X: Render filled this ARG")
    assert "reads NEXT_PUBLIC_API while" in baked.what


def test_atlas(tmp_path: Path) -> None:
    assert parity.atlas(
        {"A": "mongodb+srv://u:p@c.ab1cd.mongodb.net/x", "B": "mongodb://db.example.com"}
    ) == ("A",)
    (found,) = findings(tmp_path, {}, atlas=("MONGODB_URL",))
    assert "access list" in found.cure


def test_the_blueprint(tmp_path: Path) -> None:
    found = findings(tmp_path, {"render.yaml": BLUEPRINT})
    told = " ".join(one.what for one in found)
    for part in (
        *(
            "PORT is 8080",
            "SIGKILL 30 s later",
            "Render took 3xx too",
            "TLS",
            "the disk at /data has no volume",
        ),
        *("preDeployCommand", "initialDeployHook", "several instances", "free plan slept"),
        *("cron job nightly (0 3 * * *", "worker mailer", "private service search", "Key Value store cache"),
    ):
        assert part in told
    assert all(one.cure for one in found if one.severity == "warning")
    kept = findings(tmp_path, {"render.yaml": BLUEPRINT}, TOML + 'volumes = ["d:/data"]\n')
    assert "the disk at /data is a volume here" in " ".join(one.what for one in kept)
    stays = "the disk at /data: what it holds stays at Render."
    assert stays in [one.what for one in kept]
    moves = TOML + 'volumes = ["d:/data"]\n[moves]\nd = "srv-1@ssh.oregon.render.com:/data"\n'
    assert stays not in [one.what for one in findings(tmp_path, {"render.yaml": BLUEPRINT}, moves)]


def test_an_app_that_comes_from_render_without_a_blueprint(tmp_path: Path) -> None:
    assert any("TLS" in one.what for one in findings(tmp_path, {}, TOML + SOURCE))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("[", []),
        ("services: 3", []),
        ("services:\n  - 3\n  - {type: web, name: other}", ["other"]),
        ("services:\n  - {type: web, name: a}\n  - {type: web, name: b}", []),
        ("services:\n  - {type: web, name: a}\n  - {type: web, name: shop}", ["shop", "a"]),
        (
            "projects:\n  - environments:\n      - services:\n          - {type: web, name: shop}\n"
            "ungrouped:\n  services:\n    - {type: worker, name: w}",
            ["shop", "w"],
        ),
    ],
)
def test_the_apps_own_service_comes_first(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "render.yaml").write_text(text)
    assert [each["name"] for each in parity_blueprint.services(tmp_path / "render.yaml", "shop")] == names
    assert parity_blueprint.services(tmp_path / "none.yaml", "shop") == ()
