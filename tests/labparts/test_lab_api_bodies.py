"""Every request body of the lab's API against Google's document: what that refuses is 400, the rest is never 5xx."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import discovery
from lab_fake import FAMILY, GLOBAL, REGION, ZONE, Lab, asynced, instance
from rehost.lab import compute_body
from rehost.lab.compute_call import METHODS, Method
from rehost.lab.state import relative

Json = dict[str, Any]
EXAMPLES = 2 * int(os.environ.get("REHOST_SEQUENCES", "10"))
WITH_BODY = sorted(id_ for id_, method in METHODS.items() if method.body)
NAMES = {"project": "lab-test", "zone": "us-west1-a", "region": "us-west1", "firewall": "web"}


def path_of(method: Method) -> str:
    """The method's path, with names that exist in `furnished`."""
    return re.sub(r"{(\w+)}", lambda found: NAMES.get(found[1], "app"), method.template)


async def furnished(directory: Path) -> Lab:
    """A project in which everything that a path can name is there, under the name "app"."""
    lab = Lab(directory)
    await lab.insert()
    await lab.done("POST", f"{REGION}/addresses", {"name": "app"})
    await lab.done("POST", f"{GLOBAL}/firewalls", {"name": "web", "allowed": [{"IPProtocol": "tcp"}]})
    schedule = {"timeZone": "UTC", "vmStopSchedule": {"schedule": "0 1 * * *"}}
    policy = {"name": "app", "instanceSchedulePolicy": schedule}
    await lab.done("POST", f"{REGION}/resourcePolicies", policy)
    return lab


# -- bodies that the document refuses ----------------------------------------------------------------------


def wrong(described: Json, depth: int = 4) -> Iterator[Any]:
    """Values that do not fit a part of the document, each for one reason."""
    if "$ref" in described:
        described = discovery.schema(described["$ref"])
    kind = described.get("type")
    if kind == "object" and "properties" in described:
        yield from (7, ["x"], {"noSuchField": 1})
        if depth:
            for name, part in described["properties"].items():
                yield from ({name: value} for value in wrong(part, depth - 1))
    elif kind == "object":
        yield from (7, {"key": 7})
    elif kind == "array":
        yield 7
        yield from ([value] for value in wrong(described["items"], depth))
    elif kind == "string" and described.get("format") in ("int64", "uint64"):
        yield from ("many", True, 1.5)
    elif kind == "string":
        yield from (7, {"a": "b"})
        if "enum" in described:
            yield "NO_SUCH_WORD"
        if described.get("format") == "byte":
            yield "not base64"
    elif kind == "boolean":
        yield from ("maybe", 1)
    elif kind == "integer":
        yield from ("many", True, [1])


@pytest.mark.parametrize("id_", WITH_BODY)
@asynced
async def test_what_the_document_refuses_is_400(id_: str, tmp_path: Path) -> None:
    lab, method = Lab(tmp_path), METHODS[id_]
    described = {"$ref": method.body}
    bodies = list(wrong(described, 2))
    assert len(bodies) >= 3
    for body in bodies:
        assert discovery.request_faults(id_, {}, body), body
        error = await lab.refused(method.verb, path_of(method), body)
        assert (error["code"], bool(error["errors"][0]["reason"])) == (400, True), body


@pytest.mark.parametrize("id_", sorted(set(METHODS) - set(WITH_BODY)))
@asynced
async def test_a_method_without_a_body_takes_none(id_: str, tmp_path: Path) -> None:
    lab, method = Lab(tmp_path), METHODS[id_]
    error = await lab.refused(method.verb, path_of(method), {"colour": "red"})
    assert (error["code"], "Cannot find field" in error["message"]) == (400, True)


@pytest.mark.parametrize("id_", sorted(METHODS))
@asynced
async def test_unknown_query_parameters_are_refused(id_: str, tmp_path: Path) -> None:
    lab, method = Lab(tmp_path), METHODS[id_]
    error = await lab.refused(method.verb, path_of(method), colour="red")
    assert error["code"] == 400
    assert 'Unknown name "colour": Cannot bind query parameter.' in error["message"]
    for name in method.query & {"maxResults", "returnPartialSuccess", "deletionProtection", "port", "start"}:
        error = await lab.refused(method.verb, path_of(method), **{name: "x"})
        assert error["code"] == 400


# Written by the server, and sent back by clients that read a resource, change it and write it.
SENT_BACK = {"kind", "labelFingerprint", "zone", "region"}
SENT_BACK_WITH = {"AttachedDisk": {"index"}, "Firewall": {"id", "creationTimestamp", "selfLink"}}


@pytest.mark.parametrize("id_", WITH_BODY)
@asynced
async def test_fields_that_only_the_server_writes_are_refused(id_: str, tmp_path: Path) -> None:
    lab, method = Lab(tmp_path), METHODS[id_]
    samples = {"string": "1", "integer": 1, "boolean": True, "array": [], "number": 1.0}
    for name, part in discovery.schema(method.body)["properties"].items():
        said = part.get("description", "").lower()
        if not (part.get("readOnly") or said.startswith(("output only", "[output only]"))):
            continue
        if name in SENT_BACK | SENT_BACK_WITH.get(method.body, set()):
            continue
        error = await lab.refused(method.verb, path_of(method), {name: samples.get(part.get("type", ""), {})})
        assert error["code"] == 400
        assert f'Unknown name "{name}"' in error["message"]


# -- bodies that it accepts --------------------------------------------------------------------------------

TEXTS = st.sampled_from(
    [
        "",
        "app",
        "b",
        "Not A Name",
        "10.0.0.0/8",
        "10.70.1.100",
        "80",
        "90-80",
        "tcp",
        "0 8 * * *",
        "* * 31 2 *",
        "Asia/Seoul",
        "../etc",
        "23:00",
        "2027-01-01T00:00:00Z",
        "1970-01-01T00:00:00+09:00",
        "pd-ssd",
        FAMILY,
        f"{ZONE}/machineTypes/e2-small",
        f"{ZONE}/disks/app",
        f"{REGION}/resourcePolicies/app",
        f"{REGION}/subnetworks/default",
        "global/networks/default",
        "https://compute.googleapis.com/compute/v1/projects/x/y",
        "projects/",
        "\u0000é",
    ]
)
NUMBERS = st.sampled_from([-(2**31), -1, 0, 1, 10, 20, 300, 65536, 2**31 - 1])


def accepted(kind: str, depth: int = 4) -> st.SearchStrategy[Any]:
    """Values of a type of the lab's tables, which are a part of the document."""
    if kind.startswith("["):
        return st.lists(accepted(kind[1:-1], depth), max_size=2)
    if kind.startswith("{"):
        return st.dictionaries(
            st.sampled_from(["a", "b-1", "App", ""]), accepted(kind[1:-1], depth), max_size=2
        )
    if kind in compute_body.TABLES:
        fields = compute_body.TABLES[kind] if depth else {}
        return st.fixed_dictionaries(
            {}, optional={name: accepted(part, depth - 1) for name, part in fields.items()}
        )
    plain = {
        "string": TEXTS,
        "bytes": st.sampled_from(["", "AAAA", "AAAAAAAAAAA="]),
        "bool": st.booleans(),
        "int32": NUMBERS,
        "int64": NUMBERS.map(str),
    }
    return plain[kind] if kind in plain else st.sampled_from(kind.split("|"))


def bodies(id_: str) -> st.SearchStrategy[tuple[str, Json]]:
    """Bodies of a method; half of them on top of one that goes through, so that more than the first check is met."""
    good: dict[str, Json] = {
        "instances.insert": instance("b"),
        "firewalls.insert": {"name": "b", "allowed": [{"IPProtocol": "tcp"}]},
        "addresses.insert": {"name": "b"},
        "networks.insert": {"name": "b", "autoCreateSubnetworks": False},
        "resourcePolicies.insert": {"name": "b"},
    }
    free = accepted(METHODS[id_].body)
    mixed = free.map(lambda body: good.get(id_, {}) | body) | free.map(lambda body: body | good.get(id_, {}))
    return st.tuples(st.just(id_), mixed)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(WITH_BODY).flatmap(bodies))
def test_what_the_document_accepts_never_breaks_the_lab(case: tuple[str, Json]) -> None:
    id_, body = case
    method = METHODS[id_]
    body = {key: value for key, value in body.items() if not discovery.faults({key: value}, method.body)}

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            lab = await furnished(Path(directory))
            query = dict.fromkeys(method.query & {"networkInterface"}, "nic0")
            answer = await lab.call(method.verb, path_of(method), body, **query)
            assert answer.status < 500, answer.body
            if answer.status == 200:
                ended = await lab.call("POST", relative(answer.body["selfLink"]) + "/wait")
                assert ended.body.get("httpErrorStatusCode") != 500, ended.body

    asyncio.run(main())
