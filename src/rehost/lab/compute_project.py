"""The project: its quotas, and the metadata that all its machines share; what metadata must look like."""

from __future__ import annotations

from rehost.lab.compute_call import Call, method
from rehost.lab.compute_errors import check_fingerprint, invalid, unchanged_since
from rehost.lab.compute_quotas import PROJECT_LIMITS, project_usage, quotas
from rehost.lab.state import Cloud, Resource, fingerprint, link, timestamp


def fill(cloud: Cloud) -> None:
    """The project itself."""
    path = f"projects/{cloud.project}"
    cloud.resources[path] = {
        "kind": "compute#project",
        "id": cloud.number,
        "creationTimestamp": timestamp(),
        "name": cloud.project,
        "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": fingerprint([])},
        "defaultServiceAccount": f"{cloud.number}-compute@developer.gserviceaccount.com",
        "defaultNetworkTier": "PREMIUM",
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        "vmDnsSetting": "ZONAL_ONLY",
        "selfLink": link(path),
    }


@method("projects.get", "GET", "")
def _project(call: Call) -> Resource:
    shown = {"quotas": quotas(PROJECT_LIMITS, project_usage(call.cloud))}
    return call.cloud.get(call.project) | shown


@method("projects.setCommonInstanceMetadata", "POST", "/setCommonInstanceMetadata", body="Metadata")
def _set_common(call: Call) -> Resource:
    project = call.cloud.get(call.project)
    check_metadata(call.body, project["commonInstanceMetadata"])

    async def work() -> None:
        current = project["commonInstanceMetadata"]["fingerprint"]
        unchanged_since(call.body.get("fingerprint"), current, "metadata")
        project["commonInstanceMetadata"] = metadata(call.body.get("items", []))

    return call.operations.start(call, "compute.projects.setCommonInstanceMetadata", call.project, work)


def metadata(items: list[Resource]) -> Resource:
    """A metadata resource of these items."""
    made: Resource = {"kind": "compute#metadata", "fingerprint": fingerprint(items)}
    return made | ({"items": items} if items else {})


def check_metadata(given: Resource, current: Resource) -> None:
    """Raises ApiError: a stale fingerprint (412), a key twice or none."""
    check_fingerprint(given.get("fingerprint"), current["fingerprint"], "metadata")
    check_items(given, "resource.items")


def check_items(given: Resource, at: str) -> None:
    """Raises ApiError 400 for a metadata key that is missing, given twice or not allowed."""
    seen: set[str] = set()
    for i, item in enumerate(given.get("items", [])):
        key = item.get("key", "")
        if not 0 < len(key) <= 128 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in key):
            raise invalid(f"{at}[{i}].key", key, "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'")
        if key in seen:
            raise invalid(at, f"{key}", f"Metadata has duplicate key: {key}")
        seen.add(key)
