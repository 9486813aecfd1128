"""render.yaml: what is known is carried over, and no field vanishes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from blueprint_leaves import lists, lost
from rehost.project import values
from rehost.run.errors import UsageError
from rehost.source import blueprint, yaml_text
from rehost.source.names import app_name
from rehost.source.report import Import

EXAMPLE = Path(__file__).parents[2] / "examples" / "content-api" / "render.yaml"

FULL = """
version: "1"
previews: {generation: off}
mystery: 1
services:
  - type: web
    name: Content API
    env: docker
    region: frankfurt
    plan: pro plus
    branch: main
    rootDir: backend
    dockerfilePath: ./docker/Dockerfile
    dockerContext: ./
    dockerCommand: run me
    preDeployCommand: migrate
    healthCheckPath: /health
    maxShutdownDelaySeconds: 120
    numInstances: 2
    scaling: {minInstances: 1}
    disk: {name: d, mountPath: /data}
    domains: [api.example.com, www.example.com, "Not A Name"]
    autoDeploy: false
    surprise: yes
    envVars:
      - key: EXACT
        value: 0755
      - key: YES
        value: yes
      - key: QUOTED
        value: "a # b, $c"
      - key: EMPTY
        value: ""
      - key: PREVIEW
        value: a
        previewValue: b
        odd: c
      - key: TYPED
        sync: false
      - key: MADE
        generateValue: true
      - key: DB
        fromDatabase: {name: db, property: connectionString}
      - key: SELF
        fromService: {name: Content API, type: web, envVarKey: RENDER_EXTERNAL_URL}
      - key: SHARED
        value: own
      - key: EXACT
        value: "2"
      - key: not-a-name
        value: x
      - just text
      - fromGroup: first
      - fromGroup: second
      - fromGroup: elsewhere
  - type: worker
    name: mailer
    runtime: docker
  - {type: redis, name: cache}
  - {type: web, name: site, runtime: static}
  - text
databases:
  - name: db
envVarGroups:
  - name: first
    envVars: [{key: SHARED, value: group}, {key: G, value: "1"}]
  - name: second
    strange: 1
    envVars: [{key: G, value: "2"}]
  - name: unused
    envVars: [{key: U, value: "2"}]
projects:
  - name: p
    environments:
      - name: production
        networkIsolation: enabled
        services: [{type: pserv, name: inner}]
        databases: [{name: indb}]
"""


def fields(found: Import) -> list[str]:
    return [each[0] for each in (*found.carried, *found.differently, *found.left)]


def test_the_reference_backends_blueprint() -> None:
    found = blueprint.read(EXAMPLE)
    settings = found.settings
    assert (settings.app, settings.dockerfile, settings.health) == ("content-api", "./Dockerfile", "/health")
    assert (settings.zone, settings.machine, settings.memory) == ("us-west1-a", "e2-micro", "400MB")
    assert (settings.port, settings.stop_grace, settings.domain) == (8080, "30s", "api.example.com")
    assert settings.volumes == ("uploads:/data",)
    assert settings.variables["ALLOWED_ORIGINS"].reveal() == (
        "https://www.example.com,https://admin.example.com"
    )
    assert settings.variables["STATS_COLLECTION"].reveal() == "stats"
    assert {"MONGODB_URL", "SECRET_KEY", "REDIS_URL", "USERS_COLLECTION"} <= set(settings.required)
    assert not {"MONGODB_URL", "SECRET_KEY", "REDIS_URL"} & set(settings.variables)


DISKS = [
    ({"name": "uploads", "mountPath": "/var/data/", "sizeGB": 5}, "uploads:/var/data"),
    ({"name": "My Disk!", "mountPath": "/data"}, "my-disk:/data"),
    ({"mountPath": "/data"}, "data:/data"),
    ({"name": "uploads"}, None),
    ({"name": "uploads", "mountPath": "/with space"}, None),
    ("uploads", None),
]


@pytest.mark.parametrize(("disk", "volume"), DISKS)
def test_a_disk_becomes_a_volume(disk: object, volume: str | None) -> None:
    found = blueprint.parse(yaml.safe_dump({"services": [{"type": "web", "disk": disk}]}))
    assert found.settings.volumes == ((volume,) if volume else ())
    assert lists(found)["service.disk"] == ("differently" if volume else "left")


def test_groups_of_an_environment_its_project_and_the_file() -> None:
    """The nearest of a name counts; the groups of another project are out of reach."""

    def group(name: str, value: str) -> str:
        return f"{{name: {name}, envVars: [{{key: {name.upper()}, value: {value}}}]}}"

    app = "services: [{type: web, name: api, envVars: [{fromGroup: a}, {fromGroup: b}, {fromGroup: c}]}]"
    text = (
        f"envVarGroups: [{group('a', 'file')}, {group('b', 'file')}, {group('c', 'file')}]\n"
        f"projects:\n- name: other\n  envVarGroups: [{group('a', 'other')}, {group('b', 'other')}]\n"
        f"- name: shop\n  envVarGroups: [{group('a', 'project')}, {group('b', 'project')}]\n"
        f"  environments: [{{name: live, envVarGroups: [{group('a', 'environment')}], {app}}}]\n"
    )
    found = blueprint.parse(text)
    values = {key: value.reveal() for key, value in found.settings.variables.items()}
    assert values == {"A": "environment", "B": "project", "C": "file"}
    assert {each.field for each in found.left if "another environment" in each.why} == {
        *("envVarGroups.a", "envVarGroups.b", "projects.shop.envVarGroups.a"),
        *("projects.other.envVarGroups.a", "projects.other.envVarGroups.b"),
    }


@pytest.mark.parametrize(
    ("field", "where"),
    [
        ("autoDeploy: false", "carried"),
        ("autoDeployTrigger: 'off'", "carried"),
        ("autoDeployTrigger: commit", "left"),
        ("maintenanceMode: {enabled: false, uri: x}", "carried"),
        ("maintenanceMode: {enabled: true}", "left"),
        ("ipAllowList: [{source: 0.0.0.0/0}]", "carried"),
        ("ipAllowList: [{source: 203.0.113.0/24}]", "left"),
        ("ipAllowList: []", "left"),
    ],
)
def test_what_is_so_here_as_well_is_nothing_to_do(field: str, where: str) -> None:
    found = blueprint.parse(f"services: [{{type: web, name: a, {field}}}]")
    assert lists(found)[f"service.{field.partition(':')[0]}"] == where


def test_a_private_service_may_be_named_where_no_web_service_is() -> None:
    text = "services: [{type: pserv, name: a}, {type: worker, name: b}]"
    with pytest.raises(UsageError, match="no web service") as refused:
        blueprint.parse(text)
    assert "Name the one that moves with --service" in refused.value.cure
    assert blueprint.parse(text, "a").settings.app == "a"


def test_a_full_blueprint() -> None:
    found = blueprint.parse(FULL)
    settings = found.settings
    assert (settings.app, settings.root) == ("content-api", "backend")
    assert (settings.dockerfile, settings.context) == ("./docker/Dockerfile", "./")
    assert (settings.zone, settings.machine, settings.memory) == ("europe-west3-a", "e2-standard-4", "8GB")
    assert (settings.stop_grace, settings.domain, settings.port) == ("2m", "api.example.com", None)
    assert {key: value.reveal() for key, value in settings.variables.items()} == {
        "EXACT": "2",
        "YES": "yes",
        "QUOTED": "a # b, $c",
        "EMPTY": "",
        "PREVIEW": "a",
        "SELF": "https://api.example.com",
        "SHARED": "own",
        "G": "2",
    }
    assert settings.required == (
        "EXACT", "YES", "QUOTED", "EMPTY", "PREVIEW", "TYPED", "MADE", "DB", "SELF", "SHARED", "G"
    )  # fmt: skip
    where = lists(found)
    service = {
        "type": "carried", "name": "differently", "env": "carried", "region": "differently",
        "plan": "differently", "branch": "left", "rootDir": "carried", "dockerfilePath": "carried",
        "dockerContext": "carried", "dockerCommand": "left", "preDeployCommand": "differently",
        "healthCheckPath": "differently", "maxShutdownDelaySeconds": "carried", "numInstances": "left",
        "scaling": "left", "disk": "differently", "domains.api.example.com": "carried",
        "domains.www.example.com": "left", "domains.Not A Name": "left", "autoDeploy": "carried",
        "surprise": "left",
    }  # fmt: skip
    variables = {
        "EXACT": "left", "EXACT (2)": "carried", "YES": "carried", "QUOTED": "carried", "EMPTY": "carried",
        "PREVIEW": "carried", "PREVIEW.previewValue": "left", "PREVIEW.odd": "left", "TYPED": "differently",
        "MADE": "differently", "DB": "left", "SELF": "differently", "SHARED": "carried", "11": "left", "12": "left",
        "fromGroup.first": "carried", "fromGroup.second": "carried", "fromGroup.elsewhere": "left",
    }  # fmt: skip
    others = {
        "version": "left", "previews": "left", "mystery": "left", "services.mailer": "left",
        "services.cache": "left", "services.site": "left", "services.4": "left", "databases.db": "left",
        "envVarGroups.first.SHARED": "left", "envVarGroups.first.G": "left",
        "envVarGroups.second.G": "carried", "envVarGroups.second.strange": "left",
        "envVarGroups.unused": "left",
        "projects.p.environments.production.networkIsolation": "left",
        "projects.p.environments.production.services.inner": "left",
        "projects.p.environments.production.databases.indb": "left",
    }  # fmt: skip
    assert where == {
        **{f"service.{key}": value for key, value in service.items()},
        **{f"service.envVars.{key}": value for key, value in variables.items()},
        **others,
    }
    assert all(re.fullmatch("([A-Z]|rehost ).*[.]", each.why) for each in found.left)
    assert all(re.fullmatch("([A-Z].*[.])?", each.todo) for each in found.left)
    todo = {each.field: each.todo for each in found.left}
    assert todo["version"] == ""
    assert todo["service.dockerCommand"].startswith("Write it into the Dockerfile as CMD")
    assert all(each.how for each in found.differently)


# Every key of a service in Render's Blueprint reference, and what real files write besides.
SERVICE_KEYS = [
    "type",
    "name",
    "runtime",
    "env",
    "repo",
    "branch",
    "rootDir",
    "buildCommand",
    "startCommand",
    "preDeployCommand",
    "initialDeployHook",
    "dockerfilePath",
    "dockerContext",
    "dockerCommand",
    "image",
    "registryCredential",
    "plan",
    "region",
    "numInstances",
    "scaling",
    "healthCheckPath",
    "maxShutdownDelaySeconds",
    "disk",
    "domain",
    "domains",
    "ipAllowList",
    "renderSubdomainPolicy",
    "maintenanceMode",
    "autoDeploy",
    "autoDeployTrigger",
    "buildFilter",
    "previews",
    "previewPlan",
    "pullRequestPreviewsEnabled",
    "port",
    "schedule",
    "maxmemoryPolicy",
    "staticPublishPath",
    "headers",
    "routes",
]


@pytest.mark.parametrize("key", SERVICE_KEYS)
def test_every_key_that_render_documents_is_known(key: str) -> None:
    found = blueprint.parse(yaml.safe_dump({"services": [{"type": "web", key: "web"}]}))
    assert any(each == f"service.{key}" or each.startswith(f"service.{key}.") for each in fields(found))
    assert not any("does not know this key" in each.why for each in found.left)


KNOWN = [
    "name", "runtime", "env", "plan", "region", "rootDir", "dockerfilePath", "dockerContext", "healthCheckPath",
    "maxShutdownDelaySeconds", "numInstances", "scaling", "autoDeploy", "repo", "image", "buildCommand",
    "ipAllowList", "maintenanceMode",
]  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("ab/:-", max_size=5)
    | st.sampled_from(["docker", "/h"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=4,
)
ENTRIES = st.fixed_dictionaries(
    {"key": st.sampled_from(["A", "B", "PORT", "b-c", ""])},
    optional={
        "value": VALUES, "sync": VALUES, "generateValue": VALUES, "fromService": VALUES, "previewValue": VALUES
    },
)  # fmt: skip


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(KNOWN) | st.text("xyz", min_size=1, max_size=3), VALUES),
    st.lists(ENTRIES | st.booleans() | st.text("ab", max_size=3), max_size=5),
)
def test_no_field_of_the_service_vanishes_whatever_it_says(
    service: dict[str, Any], entries: list[Any]
) -> None:
    # A static site is not chosen: that is the only thing that a value may decide.
    service = {**service, "type": "web", "envVars": entries}
    found = blueprint.parse(yaml.safe_dump({"services": [service]}, allow_unicode=True))
    counted = Counter(fields(found))
    assert set(counted.values()) == {1}
    expected = Counter(f"service.{key}" for key in service if key != "envVars")
    if not entries:
        expected["service.envVars"] = 1
    for number, entry in enumerate(entries):
        good = isinstance(entry, dict) and entry["key"] in ("A", "B", "PORT")
        place = f"service.envVars.{entry['key'] if good else number}"
        expected[place] += 1
        if good and "previewValue" in entry:
            expected[f"{place}.previewValue"] += 1
    numbered = {
        place if count == 1 else f"{place} ({count})"
        for place, total in expected.items()
        for count in range(1, total + 1)
    }
    assert set(counted) == numbered


# A whole file of whatever kind: services anywhere, one of which is the web service that moves.
NAMES = st.sampled_from(["a", "b", "c.d"])
ITEM = st.dictionaries(st.sampled_from(["name", "plan", "x"]), VALUES | NAMES, max_size=3)
GROUP = st.fixed_dictionaries(
    {},
    optional={
        "name": VALUES | NAMES,
        "envVars": st.lists(ENTRIES | VALUES, max_size=3) | VALUES,
        "x": VALUES,
    },
)
LINK = st.fixed_dictionaries({"fromGroup": NAMES | VALUES}, optional={"x": VALUES})
SERVICE = st.builds(
    lambda fields, entries: {**fields, "type": "web", **entries},
    st.dictionaries(
        st.sampled_from([*SERVICE_KEYS, "x"]), VALUES | st.sampled_from(["a.example", "10"]), max_size=6
    ),
    st.fixed_dictionaries({}, optional={"envVars": st.lists(ENTRIES | LINK | VALUES, max_size=5) | VALUES}),
).map(lambda service: {key: value for key, value in service.items() if key not in ("runtime", "env")})
SCOPE = st.dictionaries(
    st.sampled_from(["databases", "envVarGroups", "name", "networking", "x"]),
    st.lists(ITEM | GROUP | VALUES, max_size=2) | VALUES | NAMES,
    max_size=4,
)
OTHERS = st.lists(
    st.builds(lambda item: {**item, "type": "worker"}, ITEM) | st.lists(VALUES, max_size=1), max_size=2
)


@settings(deadline=None)
@given(SCOPE, SCOPE, SERVICE, OTHERS, st.sampled_from(["top", "ungrouped", "environment"]), NAMES | VALUES)
def test_no_leaf_of_a_whole_file_is_lost(
    top: dict[str, Any],
    scope: dict[str, Any],
    service: dict[str, Any],
    others: list[Any],
    where: str,
    name: Any,
) -> None:
    inner = {**scope, "services": [*others, service]}
    document: dict[str, Any] = {
        "top": {**top, "services": [*others, service]},
        "ungrouped": {**top, "ungrouped": inner},
        "environment": {
            **top,
            "projects": [{"name": name, "environments": [inner, scope], "x": name}, scope],
        },
    }[where]
    text = yaml.safe_dump(document, allow_unicode=True)
    found = blueprint.parse(text)
    read, _ = yaml_text.read(text, "render.yaml")
    assert isinstance(read, dict)
    assert len(set(fields(found))) == len(fields(found))
    assert lost(read, chosen_in(read), found) == []


def chosen_in(scope: Any) -> Any:
    """The one web service of a file."""
    if isinstance(scope, dict):
        for item in scope.get("services", []) if isinstance(scope.get("services"), list) else []:
            if isinstance(item, dict) and item.get("type") == "web":
                return item
    inner = scope.values() if isinstance(scope, dict) else scope if isinstance(scope, list) else []
    return next((found for each in inner if (found := chosen_in(each)) is not None), None)


def test_values_never_show() -> None:
    found = blueprint.parse(
        "services: [{type: web, name: a, envVars: [{key: A, value: hunter2secret}, {key: B-C, value: hunter2secret}]}]"
    )
    assert "hunter2secret" not in f"{found} {found.as_json()}"


TWO = (
    "services: [{type: web, name: a}, {type: web, name: b}, {type: worker, name: w}, {type: pserv, name: p}]"
)


def test_one_of_several_services_is_chosen_by_name() -> None:
    assert blueprint.parse(TWO, "b").settings.app == "b"
    assert blueprint.parse(TWO, "p").settings.app == "p"


@pytest.mark.parametrize(
    ("text", "service", "said"),
    [
        (TWO, None, "2 of its services are web services.*--service.*a .web., b .web., w .worker., p .pserv."),
        (TWO, "c", 'no service "c".*a .web., b .web.'),
        (TWO, "w", "w: a worker service answers no HTTP"),
        ("services: [{type: worker, name: w}]", None, "no web service.*w .worker."),
        ("databases: []", None, "no web service.*none"),
        ("- a\n- b\n", None, "not a blueprint"),
        ("", None, "not a blueprint"),
        ("services:\n  - type: web\n   name: a\n", None, "^render.yaml:3: not valid YAML"),
        ("services: [{type: web, value: 'hunter2secret}]", None, "not valid YAML"),
        ("a: &a [*a]", None, "^render.yaml:1: .*an alias holds itself"),
        ("a: \x00", None, "not valid YAML"),
        ("[" * 5000, None, "^render.yaml: nests deeper"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, service: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        blueprint.parse(text, service)
    assert "hunter2secret" not in str(caught.value)
    assert caught.value.cure


def test_values_are_what_was_written_anchors_and_merges_included() -> None:
    found = blueprint.parse(
        "base: &base {type: web, name: x}\n"
        "services:\n"
        "  - <<: *base\n"
        "    name: y\n"
        "    envVars:\n"
        "      - {key: A, value: 1.10}\n"
        "      - {key: B, value: 2020-01-01}\n"
        "      - {key: C, value: off}\n"
        "      - {key: D, value: ~}\n"
        "      - key: E\n        value: |\n          one\n          two\n"
    )
    assert found.settings.app == "y"
    assert {key: value.reveal() for key, value in found.settings.variables.items()} == {
        "A": "1.10", "B": "2020-01-01", "C": "off", "D": "", "E": "one\ntwo\n"
    }  # fmt: skip


def test_a_key_that_stands_twice_is_told_with_its_line() -> None:
    found = blueprint.parse("services:\n  - type: web\n    plan: free\n    plan: pro\n")
    assert found.settings.machine == "e2-standard-2"
    assert "services[0].plan, line 4" in [each.field for each in found.left]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("content-api", "content-api"),
        ("My API v2", "my-api-v2"),
        ("2nd", "app-2nd"),
        ("---", "app"),
        ("", "app"),
        ("x" * 60, "x" * 42),
        ("a" * 41 + "-b", "a" * 41),
        ("Größe", "gr-sse"),
    ],
)
def test_app_names(name: str, made: str) -> None:
    assert app_name(name) == made


@settings(deadline=None)
@given(st.text())
def test_app_names_are_always_allowed(name: str) -> None:
    assert values.app_name(app_name(name))


def test_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        blueprint.read(tmp_path / "none.yaml")
    (tmp_path / "render.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UsageError, match="UTF-8"):
        blueprint.read(tmp_path / "render.yaml")
