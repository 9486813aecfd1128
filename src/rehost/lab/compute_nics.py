"""An instance's network interface and the external address on it."""

from __future__ import annotations

from rehost.lab.compute_call import Call, method
from rehost.lab.compute_catalog import region_of
from rehost.lab.compute_errors import ApiError, invalid, required
from rehost.lab.compute_networks import place_of
from rehost.lab.compute_power import external, find, give_external
from rehost.lab.state import Cloud, Resource, fingerprint, link

_AT = "/zones/{zone}/instances/{instance}"
_NAT = "External NAT"


def interface(call: Call) -> Resource:
    """The interface of an instance that is being made. Raises ApiError 400."""
    nics = call.body.get("networkInterfaces", [])
    at = "resource.networkInterfaces"
    if not nics:
        raise invalid(at, "", "At least one network interface is required.")
    if len(nics) > 1:
        raise invalid(at, len(nics), "The lab gives a machine one network interface.")
    given, at = nics[0], f"{at}[0]"
    network, subnet = place_of(call, given, at)
    if "networkIP" in given:
        raise invalid(f"{at}.networkIP", given["networkIP"], "The lab chooses the internal addresses.")
    address = call.cloud.free_internal()
    if address is None:
        raise ApiError(503, "backendError", "The lab has no internal address left.")
    made: Resource = {
        "kind": "compute#networkInterface",
        "name": "nic0",
        "network": link(network),
        "subnetwork": link(subnet),
        "networkIP": address,
        "stackType": "IPV4_ONLY",
        "fingerprint": fingerprint(address),
    }
    configs = given.get("accessConfigs", [])
    if len(configs) > 1:
        raise invalid(f"{at}.accessConfigs", len(configs), "At most one access config currently supported.")
    if configs:
        made["accessConfigs"] = [access_config(call, configs[0], f"{at}.accessConfigs[0]")]
    return made


def access_config(call: Call, given: Resource, at: str) -> Resource:
    """An access config with its defaults; natIP only if one was given. Raises ApiError 400."""
    made: Resource = {
        "kind": "compute#accessConfig",
        "type": "ONE_TO_ONE_NAT",
        "name": given.get("name", _NAT),
        "networkTier": given.get("networkTier", "PREMIUM"),
    }
    wanted = given.get("natIP")
    if wanted:
        check_static(call.cloud, region_of(call.scope), wanted, f"{at}.natIP")
        made["natIP"] = wanted
    return made


def check_static(cloud: Cloud, region: str, wanted: str, field: str) -> None:
    """Raises ApiError 400 when the address is not reserved in the region, or has a user."""
    here = cloud.under(f"projects/{cloud.project}/regions/{region}/addresses")
    if not any(address["address"] == wanted for address in here):
        raise invalid(
            field, wanted, f"The specified external IP address '{wanted}' was not found in region '{region}'."
        )
    if wanted in cloud.used_external():
        raise ApiError(400, "externalIpAddressInUse", f"External IP address: {wanted} is already in-use.")


# -- methods -----------------------------------------------------------------------------------------------


def _nic(call: Call, instance: Resource) -> Resource:
    wanted = call.query.get("networkInterface")
    if wanted is None:
        raise required("networkInterface")
    nic: Resource = instance["networkInterfaces"][0]
    if wanted != nic["name"]:
        raise invalid("networkInterface", wanted, "The specified network interface does not exist.")
    return nic


def _config(nic: Resource, name: str, field: str) -> Resource:
    for config in nic.get("accessConfigs", ()):
        if config["name"] == name:
            found: Resource = config
            return found
    raise invalid(field, name, "The specified access config does not exist.")


async def _tell(cloud: Cloud, instance: Resource) -> None:
    """The machine's external address as its resource says; one that is off or suspended learns it later."""
    if instance["status"] == "RUNNING":
        await cloud.machines.set_external(instance["name"], external(instance))


@method(
    "instances.addAccessConfig",
    "POST",
    f"{_AT}/addAccessConfig",
    body="AccessConfig",
    query=("networkInterface",),
)
def _add(call: Call) -> Resource:
    path, instance = find(call)
    nic = _nic(call, instance)
    if nic.get("accessConfigs"):
        raise invalid("networkInterface", nic["name"], "At most one access config currently supported.")
    nic["accessConfigs"] = [access_config(call, call.body, "resource")]

    async def work() -> None:
        if instance["status"] == "RUNNING":
            give_external(call.cloud, instance)
        await _tell(call.cloud, instance)

    def undo() -> None:
        nic.pop("accessConfigs", None)

    return call.operations.start(call, "addAccessConfig", path, work, undo)


@method(
    "instances.deleteAccessConfig",
    "POST",
    f"{_AT}/deleteAccessConfig",
    query=("accessConfig", "networkInterface"),
)
def _delete(call: Call) -> Resource:
    path, instance = find(call)
    nic = _nic(call, instance)
    name = call.query.get("accessConfig")
    if name is None:
        raise required("accessConfig")
    _config(nic, name, "accessConfig")

    async def work() -> None:
        nic.pop("accessConfigs", None)
        await _tell(call.cloud, instance)

    return call.operations.start(call, "deleteAccessConfig", path, work)


@method(
    "instances.updateAccessConfig",
    "POST",
    f"{_AT}/updateAccessConfig",
    body="AccessConfig",
    query=("networkInterface",),
)
def _update(call: Call) -> Resource:
    """Only what Compute Engine lets change here: the network tier and the public name. The address is not among
    it: that takes deleteAccessConfig and addAccessConfig."""
    path, instance = find(call)
    config = _config(_nic(call, instance), call.body.get("name", _NAT), "resource.name")
    wanted = call.body.get("natIP", config.get("natIP"))
    if wanted != config.get("natIP"):
        raise invalid("resource.natIP", wanted, "The address of an access config cannot be updated.")
    if call.body.get("networkTier", config["networkTier"]) != config["networkTier"]:
        raise invalid(
            "resource.networkTier", call.body["networkTier"], "The tier of an address in use cannot change."
        )

    async def work() -> None:
        if "setPublicPtr" in call.body:
            config["setPublicPtr"] = call.body["setPublicPtr"]

    return call.operations.start(call, "updateAccessConfig", path, work)
