"""Planning as tables: what was observed -> exactly these actions."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import discovery
from cloud_fake import KEY, ZONE, desired
from rehost.cloud import bodies
from rehost.cloud.model import Address, Disk, Firewall, Instance, Observed
from rehost.cloud.names import Names, image_url, region_of
from rehost.cloud.plan import destroy_plan, digest, fingerprint, plan, remarks
from rehost.run.errors import Refused, UsageError
from rehost.run.plan import Plan

OURS = {"rehost-app": "content-api"}
MARK = "rehost-app=content-api"
MACHINE = Instance(
    name="content-api",
    id="7",
    zone=ZONE,
    status="RUNNING",
    machine_type="e2-micro",
    labels=OURS,
    tags=("rehost-content-api",),
    metadata=bodies.wanted_metadata(desired(), {}),
    internal="10.138.0.2",
    external="203.0.113.7",
    access_config="External NAT",
)
DISK = Disk("content-api", 20, "pd-standard", OURS, ("content-api",))
ADDRESS = Address("content-api-ip", "us-west1", "203.0.113.7", MARK, ("content-api",))
RULES = {rule.name: rule for rule in bodies.wanted_firewalls(desired())}
ALL = Observed(MACHINE, DISK, ADDRESS, RULES)


def _rule(name: str, **changes: Any) -> dict[str, Firewall]:
    return {**RULES, name: RULES[name]._replace(**changes)}


def _machine(**changes: Any) -> Observed:
    return ALL._replace(instance=MACHINE._replace(**changes))


def _metadata(**changes: str | None) -> Observed:
    items = {**MACHINE.metadata, **{key.replace("_", "-"): value for key, value in changes.items()}}
    return _machine(metadata={key: value for key, value in items.items() if value is not None})


WEB, SSH = "content-api-web", "content-api-ssh"
CASES: list[tuple[str, Observed, dict[str, Any], list[tuple[str, list[tuple[str, Any, Any]]]]]] = [
    ("nothing to do", ALL, {}, []),
    (
        "8080 opened by hand",
        ALL._replace(firewalls=_rule(WEB, allowed=("tcp:443", "tcp:80", "tcp:8080", "udp:443"))),
        {},
        [
            (
                f"update firewall/{WEB}",
                [("allowed", ["tcp:443", "tcp:80", "tcp:8080", "udp:443"], ["tcp:443", "tcp:80", "udp:443"])],
            )
        ],
    ),
    (
        "switched off and given another priority",
        ALL._replace(firewalls=_rule(SSH, disabled=True, priority=70)),
        {},
        [(f"update firewall/{SSH}", [("priority", 70, 1000), ("disabled", True, False)])],
    ),
    (
        "ssh from one network only",
        ALL,
        {"ssh_sources": ("198.51.100.0/24",)},
        [(f"update firewall/{SSH}", [("sources", ["0.0.0.0/0"], ["198.51.100.0/24"])])],
    ),
    (
        "a rule of another network",
        ALL._replace(firewalls=_rule(WEB, network="other")),
        {},
        [(f"replace firewall/{WEB}", [("network", "other", "default")])],
    ),
    (
        "a service account as target",
        ALL._replace(firewalls=_rule(WEB, service_accounts=True)),
        {},
        [(f"replace firewall/{WEB}", [("service accounts", True, False)])],
    ),
    (
        "a missing rule",
        ALL._replace(firewalls={WEB: RULES[WEB]}),
        {},
        [(f"create firewall/{SSH}", [("allowed", None, ["tcp:22"]), ("sources", None, ["0.0.0.0/0"])])],
    ),
    (
        "another machine type",
        ALL,
        {"machine_type": "e2-small"},
        [("update machine-type/content-api", [("machine type", "e2-micro", "e2-small")])],
    ),
    (
        "stopped",
        _machine(status="TERMINATED"),
        {},
        [("update power/content-api", [("status", "TERMINATED", "RUNNING")])],
    ),
    ("still starting", _machine(status="STAGING"), {}, []),
    (
        "a small disk",
        ALL,
        {"disk_gb": 30},
        [("update disk/content-api", [("size", "20 GB", "30 GB")])],
    ),
    ("a large disk is no action", ALL, {"disk_gb": 10}, []),
    (
        "metadata switched by hand",
        _metadata(enable_guest_attributes=None, block_project_ssh_keys="FALSE"),
        {},
        [
            (
                "update metadata/content-api",
                [
                    ("metadata block-project-ssh-keys", "FALSE", "TRUE"),
                    ("metadata enable-guest-attributes", None, "TRUE"),
                ],
            )
        ],
    ),
    (
        "our key is gone",
        _metadata(ssh_keys="eve:ssh-rsa AAAA"),
        {},
        [("update metadata/content-api", [("metadata ssh-keys, ada", None, fingerprint(KEY))])],
    ),
    ("other keys are not ours to remove", _metadata(ssh_keys=f"eve:ssh-rsa AAAA\nada:{KEY} x"), {}, []),
    (
        "the label of a colleague stays, one of ours is added",
        _machine(labels={**OURS, "team": "core"}),
        {"labels": {"stage": "prod"}},
        [("update labels/content-api", [("label stage", None, "prod")])],
    ),
    (
        "the tag is gone",
        _machine(tags=("http-server",)),
        {},
        [("update tags/content-api", [("tags", ["http-server"], ["http-server", "rehost-content-api"])])],
    ),
    (
        "the reserved address is gone",
        ALL._replace(address=None),
        {},
        [
            ("create address/content-api-ip", [("region", None, "us-west1")]),
            ("update external/content-api", [("address", "203.0.113.7", "the reserved one")]),
        ],
    ),
    (
        "the machine has no external address",
        _machine(external="", access_config=""),
        {},
        [("update external/content-api", [("address", None, "203.0.113.7")])],
    ),
    ("an address that is still being reserved", ALL._replace(address=ADDRESS._replace(address="")), {}, []),
    (
        "in another zone of the region",
        Observed(None, None, ADDRESS, RULES, elsewhere=(MACHINE._replace(zone="us-west1-b"),)),
        {},
        [
            (
                "replace instance/content-api",
                [
                    ("zone", "us-west1-b", "us-west1-a"),
                    ("machine type", None, "e2-micro"),
                    ("image", None, "debian-12"),
                    ("disk", None, "20 GB pd-standard"),
                ],
            )
        ],
    ),
    (
        "a second one in another zone",
        ALL._replace(elsewhere=(MACHINE._replace(zone="us-west1-b"),)),
        {},
        [("delete instance/content-api@us-west1-b", [])],
    ),
    (
        "a disk without its machine",
        ALL._replace(instance=None, disk=DISK._replace(users=())),
        {},
        [("create instance/content-api", [("zone", None, ZONE), ("machine type", None, "e2-micro")])],
    ),
]


@pytest.mark.parametrize(("name", "observed", "changes", "expected"), CASES, ids=[case[0] for case in CASES])
def test_plan(
    name: str,
    observed: Observed,
    changes: dict[str, Any],
    expected: list[tuple[str, list[tuple[str, Any, Any]]]],
) -> None:
    actions = plan(desired(**changes), observed)
    found = [
        (f"{action.verb} {action.id}", [(c.field, c.before, c.after) for c in action.changes])
        for action in actions
    ]
    assert found == expected
    assert len(Plan.of(actions).actions) == len(actions)


def test_a_script_is_shown_by_its_length_and_digest() -> None:
    (action,) = plan(desired(startup_script="é"), ALL)
    (change,) = action.changes
    assert change.field == "metadata startup-script, runs at the next start"
    assert change.before == digest(desired().startup_script)
    assert change.after == "2 bytes, 4a99557e4033"


def test_everything_that_must_come_first_does() -> None:
    observed = _machine(status="TERMINATED", tags=(), labels={**OURS}, external="198.51.100.9")._replace(
        address=None,
        disk=DISK._replace(size_gb=10),
    )
    order = [action.id for action in Plan.of(plan(desired(machine_type="e2-small"), observed)).actions]
    assert order[-1] == "machine-type/content-api"
    assert "power/content-api" not in order
    assert order.index("address/content-api-ip") < order.index("external/content-api")


STRANGERS: list[tuple[Observed, str]] = [
    (_machine(labels={}), "a machine named content-api"),
    (_machine(labels={"rehost-app": "other"}), "a machine named content-api"),
    (Observed(disk=DISK._replace(labels={}, users=())), "a disk named content-api"),
    (ALL._replace(address=ADDRESS._replace(description="")), "an address named content-api-ip"),
    (ALL._replace(firewalls=_rule(WEB, description="by hand")), "a firewall rule named content-api-web"),
]


@pytest.mark.parametrize(("observed", "said"), STRANGERS)
def test_what_rehost_did_not_make_is_refused(observed: Observed, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        plan(desired(), observed)
    assert "rehost-app=content-api" in caught.value.cure


def test_remarks_on_what_cannot_be_put_right() -> None:
    large = ALL._replace(disk=DISK._replace(size_gb=50, type="pd-ssd"))
    assert [(finding.severity, finding.what) for finding in remarks(desired(), large)] == [
        ("warning", "the disk has 50 GB, rehost.toml says 20 GB; a disk cannot shrink."),
        ("warning", "the disk is of type pd-ssd, not pd-standard; the type stays as it was made."),
    ]
    assert remarks(desired(), ALL) == []


DESTROYED: list[tuple[Observed, bool, list[str]]] = [
    (Observed(), False, []),
    (
        ALL,
        False,
        ["instance/content-api", f"firewall/{WEB}", f"firewall/{SSH}", "address/content-api-ip"],
    ),
    (ALL, True, ["instance/content-api", f"firewall/{WEB}", f"firewall/{SSH}"]),
    (
        ALL._replace(instance=None, elsewhere=(MACHINE._replace(zone="us-west1-b"),), firewalls={}),
        True,
        ["instance/content-api@us-west1-b", "disk/content-api"],
    ),
    (
        Observed(addresses_elsewhere=(ADDRESS._replace(region="us-east1"),)),
        False,
        ["address/content-api-ip@us-east1"],
    ),
    (_machine(labels={}), True, [f"firewall/{WEB}", f"firewall/{SSH}"]),
    (Observed(disk=DISK._replace(labels={})), False, []),
    (Observed(address=ADDRESS._replace(description="mine")), False, []),
]


@pytest.mark.parametrize(("observed", "keep", "ids"), DESTROYED)
def test_destroy_plan(observed: Observed, keep: bool, ids: list[str]) -> None:
    actions = destroy_plan(desired(), observed, keep_address=keep)
    assert [action.id for action in actions] == ids
    assert all(action.destructive for action in actions)


def test_a_protected_machine_is_not_deleted() -> None:
    with pytest.raises(Refused, match="no-deletion-protection"):
        destroy_plan(desired(), _machine(deletion_protection=True))


def test_bodies_are_googles() -> None:
    wanted = desired(labels={"team": "web"}, ports=(80, 443, 8443))
    assert discovery.faults(bodies.address_body(wanted), "Address") == []
    for existing in (True, False):
        body = bodies.instance_body(wanted, external="203.0.113.7", existing_disk=existing)
        assert discovery.faults(body, "Instance") == []
    for rule in bodies.wanted_firewalls(wanted):
        body = bodies.firewall_body(wanted, rule)
        assert discovery.faults(body, "Firewall") == []
        assert bodies.read_firewall(body) == rule


LINE = st.text(
    st.characters(codec="ascii", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85"), min_size=1
).filter(str.strip)


@given(st.lists(LINE))
def test_the_key_is_added_once_and_nothing_is_lost(lines: list[str]) -> None:
    before = "\n".join(lines)
    after = bodies.with_key(before, "ada", KEY)
    assert set(before.splitlines()) <= set(after.splitlines())
    assert f"ada:{KEY} ada" in after.splitlines()
    assert bodies.with_key(after, "ada", f"{KEY} other comment") == after


def test_a_key_that_expires_does_not_count() -> None:
    expiring = f'ada:{KEY} google-ssh {{"userName":"ada","expireOn":"2026-11-22T22:10:50+0000"}}'
    assert bodies.with_key(expiring, "ada", KEY).splitlines() == [expiring, f"ada:{KEY} ada"]


@pytest.mark.parametrize("app", ["", "1a", "A", "a_b", "a-", "a" * 57, "ä"])
def test_names_that_are_not_allowed(app: str) -> None:
    with pytest.raises(UsageError, match="not allowed"):
        Names(app)


@pytest.mark.parametrize("app", ["a", "content-api", "a" * 56])
def test_names_that_are(app: str) -> None:
    names = Names(app)
    pattern = discovery.schema("Firewall")["properties"]["name"]["pattern"]
    for name in (names.instance, names.address, names.web, names.ssh, names.tag):
        assert re.fullmatch(pattern, name)


@pytest.mark.parametrize("zone", ["", "us-west1", "us_west1-a", "../x", "US-WEST1-A"])
def test_zones_that_cannot_be(zone: str) -> None:
    with pytest.raises(UsageError, match="is not a zone"):
        region_of(zone)


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("debian-12", "projects/debian-cloud/global/images/family/debian-12"),
        ("ubuntu-2404-lts-amd64", "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"),
        ("mine/golden", "projects/mine/global/images/family/golden"),
    ],
)
def test_images(image: str, url: str) -> None:
    assert image_url(image) == url


def test_a_broken_key_has_a_fingerprint_too() -> None:
    assert fingerprint("ssh-ed25519 not*base64") == "ssh-ed25519"
