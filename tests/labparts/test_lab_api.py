"""The lab's Compute API: the front door, lists, operations, what stands in every project."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import discovery
from lab_fake import FAMILY, GLOBAL, ISSUER, REGION, ZONE, Lab, asynced, instance
from rehost.lab import compute_body
from rehost.lab.compute_call import LIST_QUERY, METHODS
from rehost.lab.compute_errors import ApiError
from rehost.lab.compute_lists import filtered
from rehost.lab.state import relative


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# -- the tables against Google's document ------------------------------------------------------------------


@pytest.mark.parametrize("id_", sorted(METHODS))
def test_every_method_is_googles(id_: str) -> None:
    ours, theirs = METHODS[id_], discovery.method(id_)
    assert ours.verb == theirs["httpMethod"]
    assert ours.template == theirs["flatPath"]
    # In Google's pages but not in this copy of the document for every list.
    assert ours.query - {"returnPartialSuccess"} <= set(theirs["parameters"])
    body = theirs.get("request", {}).get("$ref", "")
    assert ours.body == body


ALIASES = {"Item": ("Metadata", "items"), "FirewallItem": ("Firewall", "allowed")}
SCALARS = {"string": "string", "bytes": "string", "bool": "boolean", "int32": "integer", "int64": "string"}


@pytest.mark.parametrize("table", sorted(compute_body.TABLES))
def test_every_field_that_a_body_may_have_is_googles(table: str) -> None:
    if table in ALIASES:
        outer, field = ALIASES[table]
        theirs = discovery.schema(outer)["properties"][field]["items"]["properties"]
    else:
        theirs = discovery.schema(table)["properties"]
    for name, whole in compute_body.TABLES[table].items():
        described, kind = theirs[name], whole
        if whole.startswith("["):
            assert described["type"] == "array", name
            described, kind = described["items"], whole[1:-1]
        elif whole.startswith("{"):
            assert described["type"] == "object", name
            described, kind = described["additionalProperties"], whole[1:-1]
        if kind in ALIASES:
            assert described["type"] == "object"
        elif kind in compute_body.TABLES:
            assert described["$ref"] == kind
        elif kind in SCALARS:
            assert described["type"] == SCALARS[kind], name
            assert (described.get("format") in ("int64", "uint64")) == (kind == "int64"), name
            assert (described.get("format") == "byte") == (kind == "bytes"), name
        else:
            assert set(kind.split("|")) <= set(described["enum"]), name


# -- the front door ----------------------------------------------------------------------------------------


@asynced
async def test_without_a_token_nothing_is_told(lab: Lab) -> None:
    lab.bearer = None
    error = await lab.refused("GET", "projects/lab-test")
    assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")
    assert error["errors"][0]["reason"] == "required"
    lab.bearer = ISSUER.token(now=0)  # ended long ago
    error = await lab.refused("GET", "projects/lab-test")
    assert error["errors"][0]["reason"] == "authError"
    lab.bearer = ISSUER.token()[:-1] + "x"
    assert (await lab.refused("GET", "projects/lab-test"))["code"] == 401


@asynced
async def test_places_that_do_not_exist(lab: Lab) -> None:
    assert (await lab.refused("GET", "projects/other"))["code"] == 404
    error = await lab.refused("GET", "projects/lab-test/zones/mars-1a/instances")
    assert error["message"] == "Invalid value for field 'zone': 'mars-1a'. Unknown zone."
    assert (await lab.refused("GET", "projects/lab-test/zones/mars-1a"))["code"] == 404
    error = await lab.refused("GET", "projects/lab-test/regions/mars/addresses")
    assert "Unknown region." in error["message"]
    assert (await lab.refused("GET", "projects/lab-test/nothing"))["code"] == 404
    error = await lab.refused("GET", f"{ZONE}/instances/none")
    assert error["message"] == f"The resource '{ZONE}/instances/none' was not found"
    assert error["errors"][0]["reason"] == "notFound"


@asynced
async def test_what_is_not_in_the_schema_is_refused(lab: Lab) -> None:
    path = f"{GLOBAL}/firewalls"
    rule = {"name": "web", "allowed": [{"IPProtocol": "tcp", "ports": ["80"]}]}
    for body, said in [
        (rule | {"colour": 1}, "Unknown name \"colour\" at 'resource': Cannot find field."),
        (rule | {"allowed": [{"IPProtocol": "tcp", "x": 1}]}, "Unknown name \"x\" at 'resource.allowed[0]'"),
        (rule | {"priority": "high"}, "Invalid value at 'resource.priority' (TYPE_INT32), \"high\""),
        (rule | {"disabled": "yes"}, "(TYPE_BOOL)"),
        (rule | {"direction": "SIDEWAYS"}, "Must be one of [INGRESS, EGRESS]."),
        (rule | {"name": "Web"}, "Must be a match of regex"),
        (rule | {"name": "a\n"}, "Must be a match of regex"),
        (rule | {"sourceRanges": ["anywhere"]}, "Must be a valid CIDR address range."),
        (rule | {"targetTags": ["a", "Web"]}, "Invalid value for field 'resource.targetTags[1]': 'Web'."),
        (rule | {"allowed": []}, "Exactly one of allowed and denied"),
        (rule | {"network": "networks/mine"}, "The referenced network resource cannot be found."),
    ]:
        error = await lab.refused("POST", path, body)
        assert error["code"] == 400
        assert said in error["message"]
    assert "Field 'force' could not be found" in (await lab.refused("GET", path, force="1"))["message"]
    assert "Required field 'resource'" in (await lab.refused("POST", path))["message"]
    assert (await lab.refused("POST", path, [1]))["code"] == 400
    assert [rule["name"] for rule in (await lab.get(path, filter="name=web")).get("items", [])] == []


KEYS = st.sampled_from(["name", "disks", "metadata", "items", "key", "value", "labels", "tags", "boot", "x"])
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=10,
)


@given(BODIES)
def test_any_body_is_taken_or_refused_with_400(body: object) -> None:
    try:
        checked = compute_body.parse(json.dumps(body).encode(), "Instance")
    except ApiError as error:
        assert error.status == 400
    else:
        assert discovery.faults(checked, "Instance") == []


def test_a_metadata_value_has_256_kib_at_most() -> None:
    def body(size: int) -> bytes:
        return json.dumps({"items": [{"key": "a", "value": "é" * (size // 2)}]}).encode()

    compute_body.parse(body(262144), "Metadata")
    with pytest.raises(ApiError, match=r"'resource.items\[0\].value' is too large: maximum size 262144"):
        compute_body.parse(body(262146), "Metadata")


# -- operations --------------------------------------------------------------------------------------------


@asynced
async def test_an_operation_goes_from_pending_to_done(lab: Lab) -> None:
    body = {"name": "web", "allowed": [{"IPProtocol": "tcp"}]}
    answer = await lab.call("POST", f"{GLOBAL}/firewalls", body)
    assert (answer.body["status"], answer.body["progress"]) == ("PENDING", 0)
    waited = await lab.call("POST", relative(answer.body["selfLink"]) + "/wait")
    assert (waited.body["status"], waited.body["progress"]) == ("DONE", 100)
    assert waited.body["targetLink"].endswith("/global/firewalls/web")
    assert waited.body["insertTime"] <= waited.body["startTime"] <= waited.body["endTime"]
    listed = await lab.get(f"{GLOBAL}/operations")
    assert [operation["name"] for operation in listed["items"]] == [waited.body["name"]]
    by_id = await lab.get(f"{GLOBAL}/operations/{waited.body['id']}")
    assert by_id["name"] == waited.body["name"]
    assert (await lab.refused("POST", f"{GLOBAL}/operations/operation-1/wait"))["code"] == 404


@asynced
async def test_a_request_id_is_carried_out_once(lab: Lab) -> None:
    request = str(uuid.uuid4())
    body = {"name": "app-ip"}
    first = await lab.done("POST", f"{REGION}/addresses", body, requestId=request)
    again = await lab.done("POST", f"{REGION}/addresses", body, requestId=request)
    assert first["name"] == again["name"]
    assert (await lab.refused("POST", f"{REGION}/addresses", body, requestId=str(uuid.uuid4())))[
        "code"
    ] == 409
    other = await lab.refused("DELETE", f"{REGION}/addresses/app-ip", requestId=request)
    assert "requestId" in other["message"]
    for wrong in ("00000000-0000-0000-0000-000000000000", "1", ""):
        error = await lab.refused("POST", f"{REGION}/addresses", {"name": "b"}, requestId=wrong)
        assert error["errors"][0]["reason"] == "invalid"


# -- lists -------------------------------------------------------------------------------------------------

ITEMS: list[dict[str, Any]] = [
    {"name": "app", "status": "RUNNING", "labels": {"rehost-app": "app"}, "sizeGb": "10"},
    {"name": "app-2", "status": "TERMINATED", "labels": {"rehost-app": "two"}, "sizeGb": "20"},
    {"name": "db", "status": "RUNNING", "sizeGb": "9", "nics": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}]},
]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("", ["app", "app-2", "db"]),
        ("name=app", ["app"]),
        ('name="app"', ["app"]),
        ("name = app-*", ["app-2"]),
        ("name!=app", ["app-2", "db"]),
        ("labels.rehost-app=app", ["app"]),
        ("labels.rehost-app:*", ["app", "app-2"]),
        ("name eq ^?app.*", ["app", "app-2"]),
        ("name ne app.*", ["db"]),
        ("(status=RUNNING) (name=app)", ["app"]),
        ("status=RUNNING AND name=db", ["db"]),
        ("name=db OR name=app", ["app", "db"]),
        ("status=RUNNING (name=db OR name=app-2)", ["db"]),
        ("sizeGb>9", ["app", "app-2"]),
        ("sizeGb<=9", ["db"]),
        ("nics.ip=10.0.0.3", ["db"]),
        ("NOT name=db", ["app", "app-2"]),
        ("NOT (name=db OR name=app)", ["app-2"]),
        (r'name eq ".*\bapp\-2\b.*"', ["app-2"]),  # as gcloud writes name=app-2
        (r"(name eq '.*app.*') (status eq RUNNING)", ["app"]),
    ],
)
def test_filters(expression: str, names: list[str]) -> None:
    expression = expression.replace("^?", "")
    assert [item["name"] for item in filtered(ITEMS, expression)] == names


@pytest.mark.parametrize(
    "wrong", ["name", "name=", "=app", "(name=app", "name=app)", "name==app", "name eq ["]
)
def test_wrong_filters(wrong: str) -> None:
    with pytest.raises(ApiError, match="Invalid list filter expression"):
        filtered(ITEMS, wrong)


@given(st.text(max_size=40))
def test_any_filter_is_taken_or_refused(expression: str) -> None:
    try:
        kept = filtered(ITEMS, expression)
    except ApiError as error:
        assert error.status == 400
    else:
        assert all(item in ITEMS for item in kept)


@asynced
async def test_pages_hold_everything_once(lab: Lab) -> None:
    names: list[str] = []
    query = {"maxResults": "3"}
    while True:
        page = await lab.get("projects/lab-test/zones", **query)
        assert len(page["items"]) <= 3
        names += [item["name"] for item in page["items"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    whole = await lab.get("projects/lab-test/zones")
    assert names == [item["name"] for item in whole["items"]]
    assert {"us-west1-a", "asia-northeast3-c"} <= set(names)
    assert (await lab.refused("GET", "projects/lab-test/zones", pageToken="?"))["code"] == 400
    assert (await lab.refused("GET", "projects/lab-test/zones", maxResults="501"))["code"] == 400


@asynced
async def test_every_list_takes_what_lists_take(lab: Lab) -> None:
    lists = [method for method in METHODS.values() if method.query >= LIST_QUERY]
    assert len(lists) >= 20
    for method in lists:
        names = {"project": "lab-test", "zone": "us-west1-a", "region": "us-west1"}
        path = method.template.format_map(names)
        query = {"filter": "name=none-* OR name:none", "maxResults": "1", "returnPartialSuccess": "true"}
        found = await lab.get(path, **query, orderBy="creationTimestamp desc")
        assert "nextPageToken" not in found
        for name, wrong in (("maxResults", "501"), ("orderBy", "size"), ("filter", "("), ("pageToken", "?")):
            error = await lab.refused("GET", path, **{name: wrong})
            assert (error["code"], error["errors"][0]["reason"]) == (400, "invalid")


@asynced
async def test_an_aggregated_list_names_every_scope(lab: Lab) -> None:
    await lab.insert(labels={"rehost-app": "app"})
    found = await lab.get("projects/lab-test/aggregated/instances", filter="labels.rehost-app=app")
    assert [item["name"] for item in found["items"]["zones/us-west1-a"]["instances"]] == ["app"]
    assert found["items"]["zones/us-west1-b"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    none = await lab.get("projects/lab-test/aggregated/instances", filter="name=other")
    assert "instances" not in none["items"]["zones/us-west1-a"]


# -- what stands in every project --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "projects/lab-test",
        "projects/lab-test/regions",
        REGION,
        ZONE,
        f"{ZONE}/machineTypes",
        f"{ZONE}/machineTypes/e2-micro",
        "projects/lab-test/aggregated/machineTypes",
        FAMILY,
        "projects/debian-cloud/global/images",
        "projects/debian-cloud/zones/-/imageFamilyViews/debian-12",
        f"{GLOBAL}/networks/default",
        f"{GLOBAL}/networks",
        f"{REGION}/subnetworks",
        f"{REGION}/subnetworks/default",
        f"{GLOBAL}/firewalls",
        f"{REGION}/addresses",
        "projects/lab-test/aggregated/addresses",
        "projects/lab-test/aggregated/disks",
    ],
)
@asynced
async def test_a_new_project_has(lab: Lab, path: str) -> None:
    assert (await lab.get(path))["kind" if "imageFamilyViews" not in path else "image"]


@asynced
async def test_machine_types_say_what_machines_get(lab: Lab) -> None:
    micro = await lab.get(f"{ZONE}/machineTypes/e2-micro")
    assert (micro["guestCpus"], micro["memoryMb"], micro["isSharedCpu"]) == (2, 1024, True)
    assert (await lab.refused("GET", f"{ZONE}/machineTypes/e2-nano"))["code"] == 404


@asynced
async def test_project_metadata_needs_the_fingerprint(lab: Lab) -> None:
    path = "projects/lab-test/setCommonInstanceMetadata"
    before = (await lab.get("projects/lab-test"))["commonInstanceMetadata"]["fingerprint"]
    items = [{"key": "ssh-keys", "value": "a:b"}]
    await lab.done("POST", path, {"items": items, "fingerprint": before})
    assert (await lab.get("projects/lab-test"))["commonInstanceMetadata"]["items"] == items
    error = await lab.refused("POST", path, {"items": items, "fingerprint": before})
    assert (error["code"], error["errors"][0]["reason"]) == (412, "conditionNotMet")


@asynced
async def test_addresses(lab: Lab) -> None:
    await lab.done("POST", f"{REGION}/addresses", {"name": "app-ip"})
    made = await lab.get(f"{REGION}/addresses/app-ip")
    assert made["status"] == "RESERVED"
    error = await lab.refused("POST", f"{REGION}/addresses", {"name": "app-ip"})
    assert error["message"] == f"The resource '{REGION}/addresses/app-ip' already exists"
    labels = {"labels": {"rehost-app": "app"}, "labelFingerprint": made["labelFingerprint"]}
    await lab.done("POST", f"{REGION}/addresses/app-ip/setLabels", labels)
    assert (await lab.get(f"{REGION}/addresses/app-ip"))["labels"] == {"rehost-app": "app"}
    assert (await lab.refused("POST", f"{REGION}/addresses/app-ip/setLabels", labels))["code"] == 412
    config = {"type": "ONE_TO_ONE_NAT", "natIP": made["address"]}
    await lab.insert(networkInterfaces=[{"accessConfigs": [config]}])
    used = await lab.get(f"{REGION}/addresses/app-ip")
    assert used["status"] == "IN_USE"
    assert used["users"][0].endswith("/instances/app")
    error = await lab.refused("DELETE", f"{REGION}/addresses/app-ip")
    assert error["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    assert error["message"].startswith(f"The address resource '{REGION}/addresses/app-ip' is already")
    error = await lab.refused(
        "POST", f"{ZONE}/instances", instance("b", networkInterfaces=[{"accessConfigs": [config]}])
    )
    assert "is already in-use." in error["message"]
    await lab.done("DELETE", f"{ZONE}/instances/app")
    await lab.done("DELETE", f"{REGION}/addresses/app-ip")
    assert (await lab.refused("GET", f"{REGION}/addresses/app-ip"))["code"] == 404


@asynced
async def test_static_addresses_have_a_quota(lab: Lab) -> None:
    for number in range(8):
        await lab.done("POST", f"{REGION}/addresses", {"name": f"ip-{number}"})
    error = await lab.refused("POST", f"{REGION}/addresses", {"name": "ip-8"})
    assert (error["code"], error["errors"][0]["reason"]) == (403, "quotaExceeded")
    quotas = {q["metric"]: q["usage"] for q in (await lab.get(REGION))["quotas"]}
    assert quotas["STATIC_ADDRESSES"] == 8.0
