"""Google's error answers, as recorded in public, and what rehost makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fake import PROJECT, ROOT, ZONE, desired, error
from rehost.cloud import errors
from rehost.cloud.failures import Context, error_of, read_operation, read_response, transient, zones_to_try
from rehost.run.errors import Exit, RehostError, UsageError

INSERT = Context("POST", f"{ROOT}/zones/{ZONE}/instances")
GET = Context("GET", f"{ROOT}/zones/{ZONE}/instances/content-api")


def _info(reason: str, **metadata: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}


RESPONSES: list[tuple[int, str, str, dict[str, Any], type[RehostError], tuple[str, ...]]] = [
    (
        403,
        "accessNotConfigured",
        "Compute Engine API has not been used in project 1 before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project=1 then retry.",
        {"details": [_info("SERVICE_DISABLED", service="compute.googleapis.com")]},
        errors.ApiNotEnabled,
        ("apis/library/compute.googleapis.com?project=my-project", "some minutes", "gcloud services enable"),
    ),
    (
        403,
        "accessNotConfigured",
        "Cloud Billing API has not been used in project 1 before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/cloudbilling.googleapis.com/overview then retry.",
        {},
        errors.ApiNotEnabled,
        ("apis/library/cloudbilling.googleapis.com",),
    ),
    (
        403,
        "forbidden",
        "This API method requires billing to be enabled. Please enable billing on project #my-project by visiting...",
        {"details": [_info("BILLING_DISABLED")]},
        errors.BillingDisabled,
        ("billing/linkedaccount?project=my-project",),
    ),
    (
        403,
        "forbidden",
        "Project my-project (#808448574146) has billing disabled. Please enable it.",
        {},
        errors.BillingDisabled,
        ("no active billing account",),
    ),
    (
        403,
        "forbidden",
        "Required 'compute.instances.create' permission for 'projects/my-project/zones/us-west1-a/instances/x'",
        {},
        errors.PermissionDenied,
        ("compute.instances.create", "iam-admin/iam?project=my-project"),
    ),
    (
        403,
        "rateLimitExceeded",
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'",
        {},
        errors.RateLimited,
        ("Wait a minute",),
    ),
    (
        403,
        "quotaExceeded",
        "Quota 'CPUS' exceeded.  Limit: 24.0 in region us-central1.",
        {},
        errors.QuotaExceeded,
        ("quota CPUS", "us-central1", "at most 24", "iam-admin/quotas"),
    ),
    (401, "authError", "Invalid Credentials", {}, errors.Unauthenticated, ("Sign in again",)),
    (
        404,
        "notFound",
        "The resource 'projects/my-project/zones/us-west1-a/instances/content-api' was not found",
        {},
        errors.NotFound,
        ("instances/content-api",),
    ),
    (404, "notFound", "The resource 'projects/my-project' was not found", {}, UsageError, ("project's id",)),
    (
        400,
        "invalid",
        "Invalid value for field 'zone': 'us-west1-a'. Unknown zone.",
        {},
        UsageError,
        ("zone",),
    ),
    (
        403,
        "forbidden",
        "Permission denied on 'locations/us-west1-a' (or it may not exist).",
        {},
        UsageError,
        ("there is no zone 'us-west1-a'",),
    ),
    (
        409,
        "alreadyExists",
        "The resource 'projects/my-project/zones/us-west1-a/instances/x' already exists",
        {},
        errors.AlreadyExists,
        ("already exists",),
    ),
    (
        412,
        "conditionNotMet",
        "Supplied fingerprint does not match current metadata fingerprint.",
        {},
        errors.Conflict412,
        ("changed by somebody else",),
    ),
    (
        400,
        "invalid",
        "Invalid value for field 'resource.disks[0].initializeParams.diskSizeGb': '5'.",
        {},
        errors.InvalidRequest,
        ("diskSizeGb", "rehost.toml"),
    ),
    (400, "required", "Required field 'resource' not specified", {}, errors.InvalidRequest, ("'resource'",)),
    (
        400,
        "resourceInUseByAnotherResource",
        "The address resource is already being used by 'projects/p/zones/z/instances/other'",
        {},
        errors.InvalidRequest,
        ("instances/other", "still uses it"),
    ),
    (503, "backendError", "Backend Error", {}, errors.CloudUnavailable, ("status.cloud.google.com",)),
    (400, "resourceNotReady", "The resource is not ready", {}, errors.NotReady, ("in a moment",)),
]


@pytest.mark.parametrize(("status", "reason", "message", "more", "kind", "says"), RESPONSES)
def test_responses(
    status: int,
    reason: str,
    message: str,
    more: dict[str, Any],
    kind: type[RehostError],
    says: tuple[str, ...],
) -> None:
    failure = read_response(status, error(status, reason, message, **more).json())
    found = error_of(failure, INSERT)
    assert type(found) is kind
    assert found.cure
    for part in says:
        assert part in str(found)
    assert transient(failure) == (kind in (errors.RateLimited, errors.CloudUnavailable))


OPERATIONS: list[tuple[dict[str, Any], type[RehostError], tuple[str, ...]]] = [
    (
        {
            "code": "QUOTA_EXCEEDED",
            "message": "Quota 'IN_USE_ADDRESSES' exceeded.  Limit: 8.0 in region us-west1.",
            "errorDetails": [
                {
                    "quotaInfo": {
                        "metricName": "compute.googleapis.com/in_use_addresses",
                        "limitName": "IN-USE-ADDRESSES-per-project-region",
                        "dimensions": {"region": "us-west1"},
                        "limit": 8.0,
                    }
                }
            ],
        },
        errors.QuotaExceeded,
        ("quota IN_USE_ADDRESSES", "us-west1", "at most 8"),
    ),
    (
        {
            "code": "QUOTA_EXCEEDED",
            "message": "The quota is used up.",
            "errorDetails": [
                {"quotaInfo": {"metricName": "compute.googleapis.com/cpus_all_regions", "limit": 0}}
            ],
        },
        errors.QuotaExceeded,
        ("quota CPUS_ALL_REGIONS", "us-west1-a", "at most 0"),
    ),
    (
        {
            "code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
            "message": "The zone does not have enough resources available to fulfill the request.",
            "errorDetails": [
                {"help": {"links": []}},
                {
                    "errorInfo": {
                        "reason": "resource_availability",
                        "metadatas": {"zonesAvailable": "us-west1-c,us-west1-b"},
                    }
                },
            ],
        },
        errors.Stockout,
        ("us-west1-a has no machine", "one of us-west1-c, us-west1-b,", "more quota does not help"),
    ),
    (
        {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "does not have enough resources available"},
        errors.Stockout,
        ("us-west1-b, us-west1-c, us-central1-a",),
    ),
    ({"code": "RESOURCE_ALREADY_EXISTS", "message": "The resource exists"}, errors.AlreadyExists, ()),
    ({"code": "CONDITION_NOT_MET", "message": "stale"}, errors.Conflict412, ()),
    ({"code": "RESOURCE_NOT_FOUND", "message": "The resource was not found"}, errors.NotFound, ()),
    (
        {
            "code": "PERMISSIONS_ERROR",
            "message": "Required 'compute.networks.get' permission for 'projects/p'",
        },
        errors.PermissionDenied,
        ("compute.networks.get",),
    ),
    ({"code": "INTERNAL_ERROR", "message": "Internal error. Please try again"}, errors.CloudUnavailable, ()),
    ({"code": "RESOURCE_OPERATION_RATE_EXCEEDED", "message": "too fast"}, errors.RateLimited, ()),
    ({"code": "SOMETHING_NEW", "message": "what is this"}, errors.InvalidRequest, ("what is this",)),
]


@pytest.mark.parametrize(("fault", "kind", "says"), OPERATIONS)
def test_operations(fault: dict[str, Any], kind: type[RehostError], says: tuple[str, ...]) -> None:
    failure = read_operation({"status": "DONE", "error": {"errors": [fault]}})
    assert failure is not None
    found = error_of(failure, INSERT)
    assert type(found) is kind
    for part in says:
        assert part in str(found)


def test_an_operation_that_went_well_has_no_failure() -> None:
    assert read_operation({"status": "DONE", "progress": 100}) is None


def test_an_operation_that_only_has_a_status_fails_too() -> None:
    failure = read_operation({"status": "DONE", "httpErrorStatusCode": 404, "httpErrorMessage": "NOT FOUND"})
    assert failure is not None
    assert type(error_of(failure, GET)) is errors.NotFound


def test_errors_name_resource_zone_and_project() -> None:
    found = error_of(read_response(412, None), GET)
    assert found.where == f"instances/content-api in {ZONE}, project {PROJECT}"
    assert found.retryable
    assert found.exit is Exit.FAILED


def test_a_full_zone_is_never_among_those_to_try() -> None:
    assert zones_to_try("asia-northeast3-a", ("asia-northeast3-b", "us-west1-b"))[:2] == (
        "asia-northeast3-b",
        "us-west1-a",
    )
    assert "us-west1-a" not in zones_to_try("us-west1-a", ())


WORDS = st.sampled_from(["errors", "message", "reason", "details", "status", "@type", "metadata"])
anything = st.recursive(
    st.none() | st.integers() | st.sampled_from(["x", "SERVICE_DISABLED", "type/google.rpc.ErrorInfo"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
bodies = anything | st.fixed_dictionaries({"error": st.dictionaries(WORDS, anything, max_size=4)})


@given(st.integers(400, 599), bodies)
def test_any_answer_becomes_an_error_with_a_cure(status: int, body: object) -> None:
    found = error_of(read_response(status, body), GET)
    assert isinstance(found, RehostError)
    assert found.what
    assert found.cure


def test_desired_names_its_region() -> None:
    assert desired().region == "us-west1"
