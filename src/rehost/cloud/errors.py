"""What can go wrong in the cloud: one tree under `CloudError`. Messages say the cause, cures what to do."""

from __future__ import annotations

from collections.abc import Sequence

from rehost.run.errors import RehostError

CONSOLE = "https://console.cloud.google.com"


class CloudError(RehostError):
    """The cloud said no, or nothing."""


class Unauthenticated(CloudError):
    """The credentials are not valid any more, or not for this API."""


class PermissionDenied(CloudError):
    """The credentials are valid, but may not do this. permission: e.g. "compute.instances.create", or ""."""

    def __init__(self, what: str, *, permission: str, project: str, where: str = "") -> None:
        self.permission = permission
        may = f"a role that holds {permission}" if permission else "the role Compute Admin"
        super().__init__(
            what,
            where=where,
            cure=f"Ask an owner of the project for {may}, or check the project's name: "
            f"{CONSOLE}/iam-admin/iam?project={project}",
        )


class ApiNotEnabled(CloudError):
    """The project has never used this API, or it was switched off. service: e.g. "compute.googleapis.com"."""

    def __init__(self, *, service: str, project: str) -> None:
        self.service = service
        super().__init__(
            f"the API {service} is not enabled in the project {project}.",
            cure=f"Enable it at {CONSOLE}/apis/library/{service}?project={project} or with "
            f"`gcloud services enable {service} --project {project}`; it takes some minutes to arrive, then "
            "run the same command again.",
        )


class BillingDisabled(CloudError):
    """The project has no open billing account; even what is free needs one."""

    def __init__(self, project: str) -> None:
        super().__init__(
            f"the project {project} has no active billing account.",
            cure=f"Link one at {CONSOLE}/billing/linkedaccount?project={project}; even what is free needs "
            "it. It takes some minutes to arrive.",
        )


class QuotaExceeded(CloudError):
    """The project may not have more of something. metric: e.g. "CPUS"; limit: "" when unknown."""

    def __init__(self, *, metric: str, limit: str, region: str, project: str, where: str = "") -> None:
        self.metric, self.limit, self.region = metric, limit, region
        at_most = f" (at most {limit})" if limit else ""
        super().__init__(
            f"the quota {metric or '(unnamed)'} of the project {project} in {region or 'this place'} "
            f"is used up{at_most}.",
            where=where,
            cure=f"Delete what is not needed any more, take another region, or ask for more at "
            f"{CONSOLE}/iam-admin/quotas?project={project}",
        )


class Stockout(CloudError):
    """The zone has no such machine left just now: another zone helps, more quota does not.

    zones: those to try. told: Google itself named them, as having such machines.
    """

    def __init__(self, *, zone: str, zones: Sequence[str], told: bool = False, where: str = "") -> None:
        self.zone, self.zones, self.told = zone, tuple(zones), told
        others = f"one of {', '.join(self.zones)}" if self.zones else "another zone"
        super().__init__(
            f"the zone {zone} has no machine of this type left just now.",
            where=where,
            cure=f"Set [machine] zone in rehost.toml to {others}, or try later; more quota does not help.",
        )


class RateLimited(CloudError):
    """Too many requests in this minute; the client has waited and asked again until its deadline."""

    def __init__(self, what: str, *, where: str = "") -> None:
        super().__init__(
            what,
            where=where,
            cure="Wait a minute and run the same command again; it carries on.",
            retryable=True,
        )


class NotFound(CloudError):
    """The resource is not there."""


class AlreadyExists(CloudError):
    """Somebody else made a thing of this name since we looked."""


class Conflict412(CloudError):
    """Somebody else changed it since we looked (a stale fingerprint)."""


class NotReady(CloudError):
    """It is being made or changed just now and cannot be asked for this yet."""


class InvalidRequest(CloudError):
    """The API does not take the request; says which field."""


class CloudUnavailable(CloudError):
    """No answer, or answers that say "later", until the deadline."""


class OperationTimeout(CloudError):
    """An operation was still under way at our deadline. It goes on without us."""
