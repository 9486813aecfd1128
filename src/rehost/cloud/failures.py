"""Reads Google's error answers, in a response or inside an operation, into the tree of `errors`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rehost.cloud import errors
from rehost.cloud.names import FREE_ZONES, last
from rehost.run.errors import UsageError

# Compiled when the first error is read, not when the module is loaded.
_RESOURCE = r"projects/(?P<project>[^/?]+)(?:/(?:zones|regions)/(?P<place>[^/?]+))?"
_PERMISSION = r"'([a-z]+\.[A-Za-z]+\.[A-Za-z]+)'"
_QUOTA = (
    r"Quota '(?P<metric>[^']+)' exceeded\.?\s*"
    r"(?:Limit: (?P<limit>[\d.]+))?(?: in region (?P<region>\S+?))?\.?$"
)
_SERVICE = r"([a-z]+\.googleapis\.com)"
_NO_PROJECT = r"[Uu]nknown project|The resource 'projects/[^/']+' was not found|Project .* not found"


class Context(NamedTuple):
    """What was asked: the HTTP method and the path, e.g. "projects/p/zones/us-west1-a/instances/api"."""

    method: str
    path: str

    @property
    def project(self) -> str:
        match = re.search(_RESOURCE, self.path)
        return match["project"] if match else ""

    @property
    def place(self) -> str:
        """The zone or region, or "" for what is global."""
        match = re.search(_RESOURCE, self.path)
        return (match["place"] or "") if match else ""

    @property
    def where(self) -> str:
        """For a person: "instances/api in us-west1-a, project p"."""
        tail = re.sub(r"^projects/[^/]+/?(global/|zones/[^/]+/?|regions/[^/]+/?)?", "", self.path)
        place = f" in {self.place}" if self.place else ""
        return f"{tail or 'project'}{place}, project {self.project}"


class Failure(NamedTuple):
    """One error as Google words it. reason: "notFound", "QUOTA_EXCEEDED", ...; compared in capitals."""

    status: int
    reason: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def detail(self, key: str) -> Mapping[str, Any]:
        """The error detail of that kind, or {}. Operations nest details by name, responses name a type."""
        for detail in self.details:
            if isinstance(detail.get(key), Mapping):
                return dict(detail[key])
            if str(detail.get("@type", "")).lower().endswith(key.lower()):
                return detail
        return {}

    @property
    def info(self) -> Mapping[str, Any]:
        """The facts of its ErrorInfo; "metadata" in a response, "metadatas" in an operation."""
        info = self.detail("errorInfo")
        facts = info.get("metadatas") or info.get("metadata")
        return dict(facts) if isinstance(facts, Mapping) else {}


def read_response(status: int, body: object) -> Failure:
    """The failure in an HTTP answer. The body may be anything: a proxy's HTML page too."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return Failure(status, "", "")
    listed = error.get("errors")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
    told = error.get("details")
    details = tuple(part for part in told if isinstance(part, Mapping)) if isinstance(told, list) else ()
    reason = str(first.get("reason") or error.get("status") or "")
    message = str(error.get("message") or first.get("message") or "")
    return Failure(status, reason, message, details)


def read_operation(operation: Mapping[str, Any]) -> Failure | None:
    """The failure of an operation that is DONE, or None when it succeeded."""
    listed = (operation.get("error") or {}).get("errors") or ()
    status = int(operation.get("httpErrorStatusCode") or 0)
    if not listed:
        return Failure(status, "", str(operation.get("httpErrorMessage") or "")) if status >= 400 else None
    first = listed[0]
    message = "; ".join(str(part.get("message") or part.get("code") or "") for part in listed)
    return Failure(status, str(first.get("code") or ""), message, tuple(first.get("errorDetails") or ()))


_RATE = {
    "RATELIMITEXCEEDED",
    "USERRATELIMITEXCEEDED",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_OPERATION_RATE_EXCEEDED",
}
_QUOTAS = {"QUOTAEXCEEDED", "QUOTA_EXCEEDED", "LIMITEXCEEDED", "LIMIT_EXCEEDED"}
_EXISTS = {"ALREADYEXISTS", "RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}
_STALE = {"CONDITIONNOTMET", "CONDITION_NOT_MET"}
_GONE = {"NOTFOUND", "RESOURCE_NOT_FOUND", "NOT_FOUND"}
_DENIED = {"FORBIDDEN", "PERMISSIONS_ERROR", "PERMISSION_DENIED", "INSUFFICIENTPERMISSIONS"}
_NOT_READY = {"RESOURCENOTREADY", "RESOURCE_NOT_READY"}
_LATER = {"BACKENDERROR", "INTERNALERROR", "INTERNAL_ERROR", "UNAVAILABLE"}
_BILLING = (
    "has billing disabled",
    "billing account for the owning project is disabled",
    "billing to be enabled",
)
_SWITCHED_OFF = ("has not been used in project", "it is disabled. enable it")


def transient(failure: Failure) -> bool:
    """Whether the same request may succeed a little later: what the client itself asks again."""
    return failure.status in (429, 500, 502, 503, 504) or failure.reason.upper() in _RATE


def error_of(failure: Failure, context: Context) -> errors.CloudError | UsageError:
    """The exception for a failure. UsageError where the cause is a wrong name in rehost.toml."""
    reason, message, project = failure.reason.upper(), failure.message, context.project
    said = _sentence(message) or f"the API answered with status {failure.status}."
    special = _about_the_project(failure, context)
    if special is not None:
        return special
    if reason in _RATE or failure.status == 429:
        return errors.RateLimited(f"too many requests: {said}", where=context.where)
    if reason.startswith("ZONE_RESOURCE_POOL_EXHAUSTED") or "does not have enough resources" in message:
        return _stockout(failure, context)
    if reason in _QUOTAS or message.startswith("Quota '"):
        return _quota(failure, context)
    if failure.status == 401 or reason in ("AUTHERROR", "UNAUTHENTICATED"):
        return errors.Unauthenticated(
            f"the credentials were not accepted: {said}",
            where=f"project {project}",
            cure="Sign in again with `gcloud auth application-default login`, or check the key file that "
            "GOOGLE_APPLICATION_CREDENTIALS names.",
        )
    if reason in _STALE or failure.status == 412:
        return errors.Conflict412(
            f"it was changed by somebody else meanwhile: {said}",
            where=context.where,
            cure="Run the same command again: it looks anew.",
            retryable=True,
        )
    if reason in _NOT_READY:
        return errors.NotReady(
            said, where=context.where, cure="Run the same command again in a moment.", retryable=True
        )
    if reason in _EXISTS:
        return errors.AlreadyExists(
            said, where=context.where, cure="Run the same command again: it looks anew at what is there."
        )
    if reason in _GONE or failure.status == 404:
        return errors.NotFound(said, where=context.where, cure="Run the same command again: it looks anew.")
    if reason in _LATER or failure.status >= 500:
        return errors.CloudUnavailable(
            f"Google Cloud has a problem of its own: {said}",
            where=context.where,
            cure="Run the same command again in a while; see https://status.cloud.google.com.",
            retryable=True,
        )
    if failure.status == 403 or reason in _DENIED:
        permission = re.search(_PERMISSION, message)
        return errors.PermissionDenied(
            f"not permitted: {said}",
            permission=permission[1] if permission else "",
            project=project,
            where=context.where,
        )
    return errors.InvalidRequest(
        f"the API refused {context.method}: {said}", where=context.where, cure=_invalid_cure(reason)
    )


def _about_the_project(failure: Failure, context: Context) -> errors.CloudError | UsageError | None:
    """API, billing, or a project or zone that is not there: they arrive as 400, 403 or 404 like much else."""
    reason, message = failure.reason.upper(), failure.message
    info_reason = str(failure.detail("errorInfo").get("reason") or "")
    low = message.lower()
    if info_reason == "BILLING_DISABLED" or any(part in low for part in _BILLING):
        return errors.BillingDisabled(context.project)
    if (
        reason == "ACCESSNOTCONFIGURED"
        or info_reason == "SERVICE_DISABLED"
        or any(part in low for part in _SWITCHED_OFF)
    ):
        service = failure.info.get("service") or next(
            iter(re.findall(_SERVICE, message)), "compute.googleapis.com"
        )
        return errors.ApiNotEnabled(service=str(service), project=context.project)
    if failure.status in (400, 403, 404) and re.search(_NO_PROJECT, message):
        return no_project(context.project)
    if failure.status in (400, 403, 404) and context.place and _names_no_zone(message, context.place):
        return no_zone(context.place, context.project, ())
    return None


def no_project(project: str) -> UsageError:
    return UsageError(
        f"there is no project {project!r}, or these credentials may not see it.",
        where="rehost.toml, [machine] project",
        cure=f"Give the project's id, not its name: {errors.CONSOLE}/projectselector2/home lists them.",
    )


def no_zone(zone: str, project: str, nearest: Sequence[str]) -> UsageError:
    cure = f"Did you mean {', '.join(nearest)}? " if nearest else ""
    return UsageError(
        f"there is no zone {zone!r} in the project {project}.",
        where="rehost.toml, [machine] zone",
        cure=f"{cure}`gcloud compute zones list --project {project}` lists them all.",
    )


def _names_no_zone(message: str, place: str) -> bool:
    return (
        "Unknown zone" in message
        or "Unknown region" in message
        or any(
            part in message
            for part in (f"'locations/{place}'", f"zones/{place}' was", f"regions/{place}' was")
        )
    )


def _stockout(failure: Failure, context: Context) -> errors.Stockout:
    available = str(failure.info.get("zonesAvailable") or "")
    told = tuple(part.strip() for part in available.split(",") if part.strip())
    return errors.Stockout(
        zone=context.place,
        zones=told or zones_to_try(context.place, ()),
        told=bool(told),
        where=context.where,
    )


def zones_to_try(zone: str, known: Sequence[str]) -> tuple[str, ...]:
    """Where to go when a zone is full: the others of its region, then those of the free tier."""
    region = zone.rsplit("-", 1)[0]
    near = [other for other in (*known, *FREE_ZONES) if other.rsplit("-", 1)[0] == region]
    ordered = dict.fromkeys((*near, *FREE_ZONES))
    ordered.pop(zone, None)
    return tuple(ordered)


def _quota(failure: Failure, context: Context) -> errors.QuotaExceeded:
    told = failure.detail("quotaInfo")
    match = re.search(_QUOTA, failure.message)
    dimensions = told.get("dimensions") or {}
    limit = told.get("limit") if told.get("limit") is not None else (match["limit"] if match else "")
    return errors.QuotaExceeded(
        metric=str((match and match["metric"]) or last(str(told.get("metricName") or ""))).upper(),
        limit=f"{float(limit):g}" if limit not in ("", None) else "",
        region=str(dimensions.get("region") or (match and match["region"]) or context.place),
        project=context.project,
        where=context.where,
    )


def _invalid_cure(reason: str) -> str:
    if reason.startswith("RESOURCEINUSE") or reason.startswith("RESOURCE_IN_USE"):
        return (
            "Something else still uses it: the message names it. Release it there and run the command again."
        )
    return "Check what the message names in rehost.toml; if it is right there, this is a mistake of rehost's."


def _sentence(message: str) -> str:
    text = " ".join(message.split())
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
