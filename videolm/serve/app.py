"""The HTTP application: OpenAI's videos shape, with every task of the model behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

import videolm
from videolm.serve.api import Api, Service
from videolm.serve.errors import ApiError
from videolm.serve.routes import PAGE, router


def create_app(service: Service) -> FastAPI:
    """The application; `Guard` goes around it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.api = Api(service)
        await asyncio.to_thread(service.workers.start)
        try:
            yield
        finally:
            await asyncio.to_thread(service.workers.stop)
            app.state.api.close()

    app = FastAPI(
        title="videolm",
        version=videolm.__version__,
        description=f"Clips, pictures and sounds by {service.name}: OpenAI's videos API, and every task of the model.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(router)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_exception_handler(ApiError, _told)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _by_framework)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _misfit)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unexpected)
    return app


async def _told(request: Request, error: ApiError) -> Response:
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _by_framework(request: Request, error: HTTPException) -> Response:
    """No such address, or not with this method."""
    return await _told(request, ApiError(error.status_code, str(error.detail), headers=dict(error.headers or {})))


async def _misfit(request: Request, error: RequestValidationError) -> Response:
    """A parameter of an address that is not what it should be."""
    first = error.errors()[0]
    where = str(first["loc"][-1])
    return await _told(request, ApiError(400, f"{where}: {first['msg']}", param=where, code="invalid_value"))


async def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours, which `Guard` logs."""
    said = f"the server failed; its log says why, under {request.state.id}"
    return await _told(request, ApiError(500, said, code="internal"))
