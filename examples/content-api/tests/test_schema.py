"""The API against its own OpenAPI: made-up requests get no 5xx and no status that is not documented.

Schemathesis makes the requests, valid and broken ones; nx-27017 stands in for MongoDB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from processes import DEADLINE, Api, Mongo, User, eventually
from test_sniff import PNG

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20  # requests for each operation, as a user and without one
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
# They end the session of the user that asks: each request has a user of its own.
ENDS_THE_SESSION = {("DELETE", "/users/me"), ("PUT", "/users/me/password")}


@pytest.fixture(scope="module")
def api(mongo: Mongo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api(
        tmp_path_factory.mktemp("schema"),
        MONGODB_URL=mongo.url,
        DATABASE_NAME="test-schema",
        ENABLE_DOCS="true",
        LOG_LEVEL="warning",
    )
    try:
        eventually("healthy", api.healthy)
        yield api
    finally:
        api.stop()


def things(user: User) -> dict[str, str]:
    """What is there for made-up requests to meet, by the names of the path's parameters."""
    slug = str(user.write_post("There")["slug"])
    comment = user.http.post(f"/posts/{slug}/comments", json={"body": "x"}).json()["id"]
    file = user.http.post("/files", params={"name": "x.png"}, content=PNG).json()["id"]
    return {"slug": slug, "comment_id": comment, "file_id": file, "handle": user.handle}


def test_made_up_requests(api: Api) -> None:
    user = api.user
    there = things(user)
    schema = schemathesis.openapi.from_dict(api.http.get("/openapi.json").json())
    codes: Counter[int] = Counter()
    operations: list[Any] = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 25
    for operation in operations:
        _ask(api, operation, there, user, codes)
    assert "Traceback" not in api.output()
    # The requests got somewhere: some were served, others refused for each of the common reasons.
    assert {200, 201, 204, 401, 403, 404, 422} <= set(codes), codes
    assert max(codes) < 500


def _ask(api: Api, operation: Any, there: dict[str, str], user: User, codes: Counter[int]) -> None:
    alone = (operation.method.upper(), operation.path) in ENDS_THE_SESSION
    known = {name: value for name, value in there.items() if f"{{{name}}}" in operation.path}
    paths = [None, known] if known and operation.method.upper() != "DELETE" else [None]
    strategies = [
        operation.as_strategy(generation_mode=mode, path_parameters=path) for mode in MODES for path in paths
    ]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(strategies), st.sampled_from([True, True, False]))
    def ask(case: Any, signed_in: bool) -> None:
        asking = api.sign_up() if alone and signed_in else user
        headers = {"Authorization": asking.http.headers["Authorization"]} if signed_in else {}
        response = case.call(base_url=str(api.http.base_url), headers=headers, timeout=DEADLINE)
        codes[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()
