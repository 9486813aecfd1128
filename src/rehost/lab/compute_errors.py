"""Compute Engine's error answers, in its own form and wording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """A call was refused. `reason` is Google's word for it, e.g. "notFound"; `details` follow google.rpc."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: str = "",
        rpc: str = "",
        details: Sequence[Json] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.location = location
        self.rpc = rpc
        self.details = list(details)

    def body(self) -> Json:
        item = {"message": self.message, "domain": self.domain, "reason": self.reason}
        if self.location:
            item |= {"location": self.location, "locationType": "header"}
        error: Json = {"code": self.status, "message": self.message, "errors": [item]}
        if self.rpc:
            error["status"] = self.rpc
        if self.details:
            error["details"] = self.details
        return {"error": error}


class OperationError(Exception):
    """An operation failed: it ends DONE with `error`, as Compute Engine reports what goes wrong after accepting.

    phrase: what httpErrorMessage says, e.g. "FORBIDDEN".
    """

    def __init__(
        self, code: str, message: str, *, status: int, phrase: str, details: Sequence[Json] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.phrase = phrase
        self.details = list(details)

    def fields(self) -> Json:
        """What the operation's resource gets."""
        error: Json = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = self.details
        return {
            "error": {"errors": [error]},
            "httpErrorStatusCode": self.status,
            "httpErrorMessage": self.phrase,
        }


def not_found(path: str) -> ApiError:
    """`path` is relative: "projects/p/zones/z/instances/i"."""
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ApiError:
    return ApiError(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid(field: str, value: object, why: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def required(field: str) -> ApiError:
    return ApiError(400, "required", f"Required field '{field}' not specified")


def too_large(field: str, limit: int, size: int) -> ApiError:
    return ApiError(
        400,
        "fieldSizeTooLarge",
        f"Value for field '{field}' is too large: maximum size {limit} character(s); actual size {size}.",
    )


def stale_fingerprint(kind: str) -> ApiError:
    """`kind`: "metadata", "tags" or "labels"."""
    subject = {"metadata": "Supplied fingerprint", "tags": "Supplied fingerprint"}.get(
        kind, "Labels fingerprint either invalid or resource labels have changed"
    )
    text = f"{subject} does not match current {kind} fingerprint." if kind != "labels" else subject
    return ApiError(412, "conditionNotMet", text, location="If-Match")


def _same(given: str | None, current: str) -> bool:
    """base64 comes back in either alphabet: gcloud sends "-_" for the "+/" that it got."""
    return (given or "").replace("-", "+").replace("_", "/") == current


def check_fingerprint(given: str | None, current: str, kind: str) -> None:
    """Raises ApiError 412 for one that is not the resource's own."""
    if not _same(given, current):
        raise stale_fingerprint(kind)


def unchanged_since(given: str | None, current: str, kind: str) -> None:
    """Raises OperationError when another change came between the call and its operation's work."""
    if not _same(given, current):
        error = stale_fingerprint(kind)
        raise OperationError("CONDITION_NOT_MET", error.message, status=412, phrase="PRECONDITION FAILED")


def in_use(path: str, user: str) -> ApiError:
    word = path.rsplit("/", 2)[-2]
    kind = {"addresses": "address", "resourcePolicies": "resource_policy"}.get(word, word.removesuffix("s"))
    return ApiError(
        400,
        "resourceInUseByAnotherResource",
        f"The {kind} resource '{path}' is already being used by '{user}'",
    )


def not_ready(path: str) -> ApiError:
    return ApiError(400, "resourceNotReady", f"The resource '{path}' is not ready")


def bad_payload(why: str) -> ApiError:
    """What the front end says of a body or query that does not fit the method's message."""
    return ApiError(
        400,
        "badRequest",
        why,
        rpc="INVALID_ARGUMENT",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"description": why}],
            }
        ],
    )


def unauthenticated(given: bool) -> ApiError:
    """401: no bearer token, or one that is not valid (`given`)."""
    rest = (
        "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
        "See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    start = (
        "Request had invalid authentication credentials."
        if given
        else "Request is missing required authentication credential."
    )
    return ApiError(
        401,
        "authError" if given else "required",
        f"{start} {rest}",
        location="Authorization",
        rpc="UNAUTHENTICATED",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_TYPE_UNSUPPORTED" if given else "CREDENTIALS_MISSING",
                "domain": "googleapis.com",
                "metadata": {"service": "compute.googleapis.com"},
            }
        ],
    )


def quota_exceeded(metric: str, limit: float, region: str) -> OperationError:
    return OperationError(
        "QUOTA_EXCEEDED",
        f"Quota '{metric}' exceeded.  Limit: {limit} in region {region}.",
        status=403,
        phrase="FORBIDDEN",
        details=[
            {
                "quotaInfo": {
                    "metricName": f"compute.googleapis.com/{metric.lower()}",
                    "limitName": f"{metric.replace('_', '-')}-per-project-region",
                    "dimensions": {"region": region},
                    "limit": limit,
                }
            }
        ],
    )


def stockout(project: str, zone: str, machine_type: str) -> OperationError:
    return OperationError(
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        f"The zone 'projects/{project}/zones/{zone}' does not have enough resources available to fulfill the "
        "request.  Try a different zone, or try again later.",
        status=503,
        phrase="SERVICE UNAVAILABLE",
        details=[
            {
                "errorInfo": {
                    "reason": "resource_availability",
                    "domain": "compute.googleapis.com",
                    "metadatas": {
                        "zone": zone,
                        "vmType": machine_type,
                        "attachment": "",
                        "zonesAvailable": "",
                    },
                }
            },
            {
                "localizedMessage": {
                    "locale": "en-US",
                    "message": f"A {machine_type} VM instance is currently unavailable in the {zone} zone. "
                    "Alternatively, you can try your request again with a different VM hardware configuration "
                    "or at a later time.",
                }
            },
        ],
    )
