"""Errors as answers: {"detail": ...}, never what the client sent, never an internal text."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.database import UnavailableError

log = logging.getLogger(__name__)


class Problem(BaseModel):
    """The body of an error."""

    detail: str


UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The database cannot be reached; try again later."}
}


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse(
        {"detail": "The database cannot be reached."}, status_code=503, headers={"Retry-After": "5"}
    )


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    # The framework's own answer repeats the input, which may be a secret, or not be encodable at all.
    if not isinstance(error, RequestValidationError):
        raise error
    details = [{key: detail[key] for key in ("type", "loc", "msg")} for detail in error.errors()]
    return JSONResponse({"detail": details}, status_code=422)


def answer_errors(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
