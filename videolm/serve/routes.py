"""The addresses that are served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from videolm.pipeline.inputs import taken
from videolm.pipeline.output import kind_of
from videolm.serve.api import Api, poll_after, shown
from videolm.serve.asking import REFERENCES, VideoRequest
from videolm.serve.errors import ApiError
from videolm.serve.folders import TYPES, Variant
from videolm.serve.store import Record

PAGE = Path(__file__).parent / "page"
KEEP_ALIVE = 15.0
"""Seconds after which a silent stream of events says that it is still there."""

router = APIRouter()


def api(request: Request) -> Api:
    found: Api = request.app.state.api
    return found


def owner(request: Request) -> str:
    """Whose request it is: `Guard` says so."""
    return str(request.state.owner)


def video(record: Record, status: int = 200) -> JSONResponse:
    return JSONResponse(shown(record), status, headers={} if record.over else poll_after())


def _body(model: type[VideoRequest] = VideoRequest, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A body for the OpenAPI page: fields and files."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    files = {name: {"type": "string", "format": "binary", "description": "A file."} for name in REFERENCES}
    references = {
        name: {"type": "object", "description": '{"image_url": "data:..."} or {"id": "video_..."}.'}
        for name in REFERENCES
    }
    properties = schema["properties"]
    both = {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": properties | files, "required": [*required]}
        },
        "application/json": {
            "schema": {"type": "object", "properties": properties | references, "required": [*required]}
        },
    }
    return {"requestBody": {"required": True, "content": both}}


@router.post("/v1/videos", summary="Queue a video", openapi_extra=_body())
async def create(request: Request) -> Response:
    return video(await api(request).create(request))


@router.post("/v1/videos/sync", summary="Make a video, and wait for it", openapi_extra=_body())
async def create_and_wait(request: Request) -> Response:
    served, mine = api(request), owner(request)
    last = await served.create(request)
    async for now in served.wait(last, request):
        last = now or last
    if not last.over:  # the client has left
        await served.cancel(last.id)
        return Response(status_code=499)
    if last.code is not None:
        status = 400 if last.code == "invalid_request" else 500
        raise ApiError(status, str(last.message), code=last.code)
    path = await served.result(last.id, mine)
    return FileResponse(path, media_type=TYPES[path.suffix], headers={"x-video-id": last.id})


@router.get("/v1/videos", summary="List videos")
async def list_videos(
    request: Request, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
) -> Response:
    if not 1 <= limit <= 100:
        raise ApiError(400, "limit is 1 to 100", param="limit")
    if after is not None:
        await api(request).job(after, owner(request))
    mine = owner(request)
    found = await api(request).stored(lambda store: store.page(mine, limit + 1, after, order == "desc"))
    page = [shown(record) for record in found[:limit]]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return JSONResponse({"object": "list", "data": page, **ends, "has_more": len(found) > limit})


@router.post("/v1/videos/edits", summary="Make part of a video anew, or restyle it", openapi_extra=_body())
async def edit(request: Request) -> Response:
    return video(await api(request).create(request, source="video"))


@router.post("/v1/videos/extensions", summary="Let a video go on", openapi_extra=_body(required=("seconds",)))
async def extend(request: Request) -> Response:
    return video(await api(request).create(request, source="video", extends=True))


@router.get("/v1/videos/{video_id}", summary="How far a video is")
async def retrieve(request: Request, video_id: str) -> Response:
    return video(await api(request).job(video_id, owner(request)))


@router.delete("/v1/videos/{video_id}", summary="Stop a video, and remove what it made")
async def delete(request: Request, video_id: str) -> Response:
    served = api(request)
    await served.remove(await served.job(video_id, owner(request)))
    return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})


@router.post("/v1/videos/{video_id}/cancel", summary="Stop a video")
async def cancel(request: Request, video_id: str) -> Response:
    served = api(request)
    await served.job(video_id, owner(request))
    await served.cancel(video_id)
    return video(await served.job(video_id, owner(request)))


@router.post("/v1/videos/{video_id}/remix", summary="The same with another prompt")
async def remix(request: Request, video_id: str) -> Response:
    return video(await api(request).remix(video_id, request))


@router.get("/v1/videos/{video_id}/content", summary="What was made")
async def content(request: Request, video_id: str, variant: Variant = "video") -> Response:
    path = await api(request).result(video_id, owner(request), variant)
    headers = {"content-disposition": f'inline; filename="{video_id}{path.suffix}"'}
    return FileResponse(path, media_type=TYPES[path.suffix], headers=headers)


@router.get("/v1/videos/{video_id}/frames/{number}", summary="A frame, as soon as it is there")
async def frame(request: Request, video_id: str, number: int) -> Response:
    served = api(request)
    record = await served.job(video_id, owner(request))
    path = served.folders.frame(record.id, number) if 0 <= number < 100_000 else None
    if path is None or not path.is_file():
        raise ApiError(404, f"frame {number} is not there", param="number", code="not_found")
    return FileResponse(path, media_type="image/webp")


@router.get("/v1/videos/{video_id}/events", summary="Progress as server-sent events")
async def events(request: Request, video_id: str) -> Response:
    """Events `progress`, then `completed` or `failed`, each with the video object."""
    served = api(request)
    record = await served.job(video_id, owner(request))

    async def told() -> AsyncIterator[bytes]:
        async for now in served.wait(record, request, KEEP_ALIVE):
            if now is None:
                yield b": still here\n\n"
                continue
            name = now.status if now.over else "progress"
            yield f"event: {name}\ndata: {json.dumps(shown(now))}\n\n".encode()

    return StreamingResponse(told(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


@router.get("/v1/models", summary="The model that is served")
async def models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [described(api(request))]})


@router.get("/v1/models/{name}", summary="The model, its tasks and sizes")
async def model(request: Request, name: str) -> Response:
    found = described(api(request))
    if name != found["id"]:
        raise ApiError(404, f"the model here is '{found['id']}'", param="model", code="model_not_found")
    return JSONResponse(found)


def described(served: Api) -> dict[str, Any]:
    """What a client has to know of the model to offer its tasks."""
    outline = served.service.outline
    tasks = [
        {
            "name": task.name,
            "takes": taken(task),
            "makes": kind_of(task),
            "sound": any(p.kind == "audio" for p in task.outputs),
        }
        for task in outline.tasks.tasks
    ]
    shapes = outline.tasks.formats
    sizes = [f"{f * shape.width}x{f * shape.height}" for f in outline.factors for shape in shapes]
    return {
        "id": served.service.name,
        "object": "model",
        "created": int(served.service.began),
        "owned_by": "videolm",
        "fps": outline.tasks.fps,
        "frames": sorted({shape.frames for shape in shapes}),
        "sizes": list(dict.fromkeys(sizes)),
        "max_seconds": served.limits.made_seconds,
        "tasks": tasks,
    }


@router.get("/health", summary="Whether videos can be made")
async def health(request: Request) -> Response:
    served = api(request)
    counts = await served.stored(lambda store: store.counts())
    alive = served.service.workers.alive
    about = {"status": "ok" if alive else "starting", "workers": alive, "queued": counts["queued"]}
    return JSONResponse(about, 200 if alive else 503)


@router.get("/metrics", summary="Counts for Prometheus")
async def metrics(request: Request) -> Response:
    served = api(request)
    served.service.metrics.jobs(await served.stored(lambda store: store.counts()))
    return Response(served.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    return FileResponse(PAGE / "docs.html", media_type="text/html; charset=utf-8")
