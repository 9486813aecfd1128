"""Static regional addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ZONES, region_of
from rehost.lab.compute_errors import (
    ApiError,
    already_exists,
    check_fingerprint,
    in_use,
    invalid,
    required,
    unchanged_since,
)
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.compute_quotas import check_room
from rehost.lab.state import Cloud, Resource, fingerprint, link, relative

NAME = "(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
MOST_LABELS = 64
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def check_name(body: Resource) -> str:
    """The name in a body. Raises ApiError 400 for one that is not allowed."""
    if "name" not in body:
        raise required("resource.name")
    name = str(body["name"])
    if not re.fullmatch(NAME, name):
        raise invalid("resource.name", name, f"Must be a match of regex '{NAME}'")
    return name


def check_labels(labels: Resource, at: str = "resource.labels") -> None:
    """Small ASCII letters here; Google takes international ones too, which the lab has no use for."""
    if len(labels) > MOST_LABELS:
        raise invalid(at, len(labels), f"A resource can have {MOST_LABELS} labels at most.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise invalid(at, key, "Label keys must be a match of regex '[a-z][a-z0-9_-]{0,62}'.")
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid(at, value, "Label values must be a match of regex '[a-z0-9_-]{0,63}'.")


def check_tags(tags: Iterable[str], at: str) -> None:
    """Network tags. Raises ApiError 400."""
    for i, tag in enumerate(tags):
        if not re.fullmatch(NAME, tag):
            raise invalid(f"{at}[{i}]", tag, f"Must be a match of regex '{NAME}'")


def set_labels(call: Call, path: str, kind: str) -> Resource:
    """The setLabels method of any resource."""
    resource = call.cloud.get(path)
    check_fingerprint(call.body.get("labelFingerprint"), resource["labelFingerprint"], "labels")
    labels = call.body.get("labels", {})
    check_labels(labels)

    async def work() -> None:
        unchanged_since(call.body.get("labelFingerprint"), resource["labelFingerprint"], "labels")
        resource["labels"] = labels
        resource["labelFingerprint"] = fingerprint(labels)
        if not labels:
            del resource["labels"]

    return call.operations.start(call, kind, path, work)


def shown(cloud: Cloud, path: str) -> Resource:
    """The address with its status and users, which follow from the instances."""
    resource = cloud.get(path)
    user = cloud.used_external().get(resource["address"])
    if user:
        return resource | {"status": "IN_USE", "users": [link(user)]}
    return resource


@method("addresses.get", "GET", "/regions/{region}/addresses/{address}")
def _get(call: Call) -> Resource:
    return shown(call.cloud, f"{call.scope}/addresses/{call.path['address']}")


@method("addresses.list", "GET", "/regions/{region}/addresses", query=LIST_QUERY)
def _list(call: Call) -> Resource:
    items = [
        shown(call.cloud, relative(item["selfLink"])) for item in call.cloud.under(f"{call.scope}/addresses")
    ]
    return page(call, "compute#addressList", items)


@method("addresses.aggregatedList", "GET", "/aggregated/addresses", query=AGGREGATED_QUERY)
def _aggregated(call: Call) -> Resource:
    scopes = {
        f"regions/{region}": [
            shown(call.cloud, relative(item["selfLink"]))
            for item in call.cloud.under(f"{call.project}/regions/{region}/addresses")
        ]
        for region in ZONES
    }
    return aggregated(call, "compute#addressAggregatedList", "addresses", {"global": [], **scopes})


@method("addresses.insert", "POST", "/regions/{region}/addresses", body="Address")
def _insert(call: Call) -> Resource:
    """Labels given here have no effect: "These can only be added or modified by the setLabels method"."""
    cloud, body = call.cloud, call.body
    path = f"{call.scope}/addresses/{check_name(body)}"
    if path in cloud.resources:
        raise already_exists(path)
    region = call.path["region"]
    check_room(cloud, "STATIC_ADDRESSES", region)
    made: Resource = {
        "kind": "compute#address",
        "description": body.get("description", ""),
        "address": _chosen(cloud, region, body.get("address")),
        "addressType": "EXTERNAL",
        "networkTier": body.get("networkTier", "PREMIUM"),
        "status": "RESERVING",
        "region": link(call.scope),
        "labelFingerprint": fingerprint({}),
    }
    cloud.add(path, made)
    resource = cloud.resources[path]

    async def work() -> None:
        resource["status"] = "RESERVED"

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


def _chosen(cloud: Cloud, region: str, wanted: str | None) -> str:
    """A free address, or the ephemeral one that is to become static."""
    if wanted is None:
        free = cloud.free_external()
        if free is None:
            raise ApiError(503, "backendError", "The lab has no external address left.")
        return free
    taken = any(address["address"] == wanted for _, address in cloud.everywhere("addresses"))
    user = cloud.used_external().get(wanted)
    if taken or user is None or region_of(user) != region:
        raise invalid(
            "resource.address", wanted, "Specified IP address is already reserved or not in use here."
        )
    return wanted


@method(
    "addresses.setLabels",
    "POST",
    "/regions/{region}/addresses/{resource}/setLabels",
    body="RegionSetLabelsRequest",
)
def _set_labels(call: Call) -> Resource:
    return set_labels(call, f"{call.scope}/addresses/{call.path['resource']}", "setLabels")


@method("addresses.delete", "DELETE", "/regions/{region}/addresses/{address}")
def _delete(call: Call) -> Resource:
    path = f"{call.scope}/addresses/{call.path['address']}"
    address = shown(call.cloud, path)
    if "users" in address:
        raise in_use(path, relative(address["users"][0]))

    async def work() -> None:
        call.cloud.resources.pop(path, None)

    return call.operations.start(call, "delete", path, work)
