"""Images that the project makes of its own disks and snapshots."""

from __future__ import annotations

from rehost.lab.compute_addresses import check_labels, check_name, set_labels
from rehost.lab.compute_body import TABLES
from rehost.lab.compute_call import Call, method
from rehost.lab.compute_errors import ApiError, already_exists, in_use, required
from rehost.lab.compute_quotas import check_room
from rehost.lab.compute_sources import content, source
from rehost.lab.state import Resource, fingerprint, relative

TABLES.update(
    {
        "Image": {
            "kind": "string",
            "name": "string",
            "description": "string",
            "family": "string",
            "labels": "{string}",
            "sourceDisk": "string",
            "sourceImage": "string",
            "sourceSnapshot": "string",
            "sourceType": "RAW",
            "diskSizeGb": "int64",
            "storageLocations": "[string]",
            "licenses": "[string]",
            "guestOsFeatures": "[GuestOsFeature]",
            "architecture": "ARCHITECTURE_UNSPECIFIED|ARM64|X86_64",
        },
        "GuestOsFeature": {
            "type": "FEATURE_TYPE_UNSPECIFIED|GVNIC|IDPF|MULTI_IP_SUBNET|SECURE_BOOT|SEV_CAPABLE|SEV_LIVE_MIGRATABLE"
            "|SEV_LIVE_MIGRATABLE_V2|SEV_SNP_CAPABLE|SNP_SVSM_CAPABLE|TDX_CAPABLE|UEFI_COMPATIBLE"
            "|VIRTIO_SCSI_MULTIQUEUE|WINDOWS|CCA_CAPABLE|BARE_METAL_LINUX_COMPATIBLE"
        },
        "GlobalSetLabelsRequest": {"labels": "{string}", "labelFingerprint": "bytes"},
    }
)


@method("images.insert", "POST", "/global/images", body="Image", query=("forceCreate",))
def _insert(call: Call) -> Resource:
    cloud, body = call.cloud, call.body
    _check_own(call, "create", body.get("name", ""))
    path = f"{call.scope}/images/{check_name(body)}"
    if path in cloud.resources:
        raise already_exists(path)
    made_of = source(call, body, "resource")
    if made_of is None:
        raise required("resource.sourceDisk")
    users = [relative(user) for user in made_of.resource.get("users", ())]
    busy = [user for user in users if cloud.resources[user]["status"] != "TERMINATED"]
    if made_of.word == "disk" and busy and call.query.get("forceCreate", "false") != "true":
        raise in_use(made_of.path, busy[0])
    check_labels(body.get("labels", {}))
    check_room(cloud, "IMAGES")
    labels = body.get("labels", {})
    image = cloud.add(
        path,
        {
            "kind": "compute#image",
            "description": body.get("description", ""),
            "sourceType": "RAW",
            "status": "PENDING",
            "diskSizeGb": str(made_of.gigabytes),
            "storageLocations": body.get("storageLocations", ["us"]),
            "labelFingerprint": fingerprint(labels),
            **made_of.fields(),
            **{
                key: body[key]
                for key in ("family", "licenses", "guestOsFeatures", "architecture")
                if key in body
            },
            **({"labels": labels} if labels else {}),
        },
    )

    async def work() -> None:
        image["archiveSizeBytes"] = str(await cloud.disks.copy(made_of.content, content(path)))
        image["status"] = "READY"

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


@method("images.setLabels", "POST", "/global/images/{resource}/setLabels", body="GlobalSetLabelsRequest")
def _set_labels(call: Call) -> Resource:
    _check_own(call, "setLabels", call.path["resource"])
    return set_labels(call, f"{call.scope}/images/{call.path['resource']}", "setLabels")


@method("images.delete", "DELETE", "/global/images/{image}")
def _delete(call: Call) -> Resource:
    _check_own(call, "delete", call.path["image"])
    path = f"{call.scope}/images/{call.path['image']}"
    call.cloud.get(path)

    async def work() -> None:
        call.cloud.remove(path)
        await call.cloud.disks.delete(content(path))

    return call.operations.start(call, "delete", path, work)


def _check_own(call: Call, what: str, name: str) -> None:
    """Raises ApiError 403: nobody changes what others publish."""
    project = call.path["project"]
    if project not in (call.cloud.project, call.cloud.number):
        raise ApiError(
            403,
            "forbidden",
            f"Required 'compute.images.{what}' permission for 'projects/{project}/global/images/{name}'",
        )
