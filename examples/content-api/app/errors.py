"""Errors as answers: {"detail": ...}, never what the client sent, never an internal text."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.database import BusyError, UnavailableError

log = logging.getLogger(__name__)


class Problem(BaseModel):
    """The body of an error."""

    detail: str


_MEANINGS = {
    400: "The request cannot be read.",
    401: "No valid access token came with the request.",
    403: "This user may not do that.",
    404: "There is no such thing.",
    409: "It contradicts what is there already.",
    413: "The body is too large.",
    415: "Content of this type is not taken.",
    416: "The range lies outside the file.",
    429: "Too many attempts; Retry-After says how many seconds to wait.",
    503: "The database cannot be reached; try again later.",
    507: "There is not enough space left.",
}


def answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of these errors, for a route or a router."""
    return {code: {"model": Problem, "description": _MEANINGS[code]} for code in codes}


def invalid(field: str, message: str, where: str = "body") -> RequestValidationError:
    """An error of one field, in the shape in which the framework reports all others."""
    return RequestValidationError([{"type": "value_error", "loc": (where, field), "msg": message}])


def unauthorized(message: str) -> HTTPException:
    return HTTPException(401, message, headers={"WWW-Authenticate": "Bearer"})


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse(
        {"detail": "The database cannot be reached."}, status_code=503, headers={"Retry-After": "5"}
    )


async def _busy(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The same thing was changed meanwhile; try again."}, status_code=409)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    # The framework's own answer repeats the input, which may be a secret, or not be encodable at all.
    if not isinstance(error, RequestValidationError):
        raise error
    details = [{key: detail[key] for key in ("type", "loc", "msg")} for detail in error.errors()]
    return JSONResponse({"detail": details}, status_code=422)


def answer_errors(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
