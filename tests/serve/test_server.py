"""The server as clients meet it: the real `openai` client, forms, JSON, files, events."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openai
import PIL.Image
import pytest

from videolm.media import Audio, Video, probe, read_video, write_audio, write_video
from videolm.pipeline import VideoLM

PROMPT = "a small red circle moves right on a white background"
Server = Any
"""See `conftest.py`."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def picture(side: int = 40) -> bytes:
    to = io.BytesIO()
    PIL.Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(to, "png")
    return to.getvalue()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3), dtype=np.uint8)
    return write_video(Video(pixels, 8.0), tmp_path_factory.mktemp("film") / "film.mp4")


def test_the_openai_client(server: Server, film: Path, tmp_path: Path) -> None:
    client = openai.OpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0)
    made = client.videos.create_and_poll(prompt=PROMPT, extra_body={"seed": 5})
    assert (made.status, made.progress, made.seconds, made.size) == ("completed", 100, "2.125", "32x32")
    path = tmp_path / "made.mp4"
    client.videos.download_content(made.id).write_to_file(path)
    info = probe(path)
    assert (info.frames, info.width, info.fps) == (17, 32, 8.0)
    for variant in ("thumbnail", "spritesheet"):
        shown = PIL.Image.open(io.BytesIO(client.videos.download_content(made.id, variant=variant).read()))
        assert shown.format == "WEBP" and shown.width >= 32
    remixed = client.videos.remix(made.id, prompt="a large blue star")
    assert remixed.remixed_from_video_id == made.id and client.videos.poll(remixed.id).status == "completed"
    longer = client.videos.poll(client.videos.extend(video=film.open("rb"), prompt=PROMPT, seconds="2").id)
    assert longer.status == "completed" and longer.seconds == "3.5"  # 12 frames and 16
    first = client.videos.create_and_poll(prompt=PROMPT, input_reference=("a.png", picture()))
    assert first.model_extra and first.model_extra["task"] == "image_to_video" and first.status == "completed"
    page = client.videos.list(limit=2)
    assert [each.id for each in page.data] == [first.id, longer.id] and page.has_more
    assert made.id in [each.id for each in client.videos.list(limit=2)]  # page by page
    assert client.videos.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="it makes 32x32, 64x64"):
        client.videos.create(prompt="x", size="1280x720")


def test_what_is_made_is_what_python_makes(server: Server, upscaling_model: Path, tmp_path: Path) -> None:
    """The same seed, beside other jobs."""
    others = [server.create(prompt="a large blue star", seed=n) for n in range(5)]
    made = server.over(server.create(seed=11)["id"])
    path = tmp_path / "made.mp4"
    path.write_bytes(server.client.get(f"/v1/videos/{made['id']}/content").content)
    from videolm.generate.sampling import generators

    model = VideoLM.from_pretrained(upscaling_model)
    same = write_video(model(PROMPT, generator=generators(11, 1)).videos[0], tmp_path / "same.mp4")
    assert np.array_equal(read_video(path).frames, read_video(same).frames)
    assert all(server.over(other["id"])["status"] == "completed" for other in others)


def test_sizes_stories_chains_and_pictures(server: Server) -> None:
    large = server.create(size="64x64", num_inference_steps=1)
    scenes = [{"prompt": PROMPT, "seconds": 1}, {"prompt": "a star", "seconds": 2}]
    story = server.create(prompt=None, scenes=scenes)
    long = server.create(prompt=None, scenes=scenes, size="64x64", num_inference_steps=1)
    chain = server.create(task="text_to_image+image_to_video")
    still = server.create(task="text_to_image")
    found = [server.over(each["id"]) for each in (large, story, chain, still, long)]
    assert [each["status"] for each in found] == ["completed"] * 5
    assert [each["size"] for each in found] == ["64x64", "32x32", "32x32", "32x32", "64x64"]
    assert [each["seconds"] for each in found] == ["2.125", "3", "2.125", "0.125", "3"]
    answer = server.client.get(f"/v1/videos/{still['id']}/content")
    assert answer.headers["content-type"] == "image/png" and found[3]["kind"] == "image"
    part = server.client.get(f"/v1/videos/{large['id']}/content", headers={"range": "bytes=0-99"})
    assert part.status_code == 206 and len(part.content) == 100


def test_references_to_earlier_videos_and_data(server: Server) -> None:
    import base64

    made = server.over(server.create()["id"])
    went = server.over(server.create(video_reference={"id": made["id"]})["id"])
    assert went["status"] == "completed" and went["task"] == "frame_prediction"
    address = "data:image/png;base64," + base64.b64encode(picture()).decode()
    for reference in ({"image_url": address}, address, json.dumps({"image_url": address})):
        assert server.create(input_reference=reference)["task"] == "image_to_video"
    refused = server.client.post("/v1/videos", json={"prompt": "x", "input_reference": {"image_url": "http://a.org/b"}})
    assert refused.status_code == 403 and "upload the file" in refused.json()["error"]["message"]
    form = {"prompt": PROMPT, "video_reference[id]": made["id"]}
    assert server.client.post("/v1/videos", data=form).json()["task"] == "frame_prediction"


def test_progress_as_events_and_frames_as_they_come(server: Server) -> None:
    """Of a long clip, whose first frames are there before its last."""
    job = server.create(seconds="30")
    told = list[tuple[str, dict[str, Any]]]()
    with server.client.stream("GET", f"/v1/videos/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            name = line[7:] if line.startswith("event: ") else name
            if line.startswith("data: "):
                told.append((name, json.loads(line[6:])))
    assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1) and told[-1][0] == "completed"
    shares = [video["progress"] for _, video in told]
    assert shares == sorted(shares) and shares[-1] == 100
    assert any(0 < video["frames_ready"] < 240 for _, video in told)
    frame = server.client.get(f"/v1/videos/{job['id']}/frames/239")
    assert PIL.Image.open(io.BytesIO(frame.content)).size == (32, 32)
    assert server.client.get(f"/v1/videos/{job['id']}/frames/240").status_code == 404


def test_waiting_for_the_answer(server: Server) -> None:
    answer = server.client.post("/v1/videos/sync", data={"prompt": PROMPT})
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    assert server.get(answer.headers["x-video-id"])["status"] == "completed"
    wrong = server.client.post("/v1/videos/sync", data={"prompt": "word " * 300})
    assert wrong.status_code == 400 and "shorten it" in wrong.json()["error"]["message"]


def test_cancelling(server: Server) -> None:
    jobs = [server.create(seconds="60") for _ in range(3)]
    server.wait_until(lambda: server.get(jobs[0]["id"])["status"] == "in_progress")
    for job in jobs[:2]:
        stopped = server.client.post(f"/v1/videos/{job['id']}/cancel").json()
        assert stopped["status"] == "failed" and stopped["error"]["code"] == "cancelled"
    assert server.client.delete(f"/v1/videos/{jobs[2]['id']}").json()["deleted"]
    assert server.over(server.create()["id"], 20)["status"] == "completed"  # nobody is in the way
    server.wait_until(lambda: not (server.data / "jobs" / jobs[2]["id"]).exists())
    answer = server.client.get(f"/v1/videos/{jobs[0]['id']}/content")
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "cancelled"


def test_errors_have_one_shape(server: Server, film: Path, tmp_path: Path) -> None:
    sound = write_audio(Audio(np.zeros((1, 8000), np.float32), 8000), tmp_path / "sound.wav")
    post, get = server.client.post, server.client.get
    answers = [
        (404, get("/v1/nothing")),
        (405, server.client.put("/v1/videos")),
        (404, get("/v1/videos/video_0")),
        (404, get("/v1/videos/..%2f..%2fjobs.sqlite/content")),
        (404, get("/v1/videos/video_" + "0" * 32 + "/content")),
        (400, get("/v1/videos", params={"limit": "x"})),
        (400, get("/v1/videos", params={"limit": 1000})),
        (404, get("/v1/videos", params={"after": "video_0"})),
        (415, post("/v1/videos", content=b"prompt")),
        (400, post("/v1/videos", content=b"{", headers={"content-type": "application/json"})),
        (400, post("/v1/videos", json=[1])),
        (400, post("/v1/videos", content=b"x", headers={"content-type": "multipart/form-data"})),
        (400, post("/v1/videos", json={"prompt": "x", "colour": "red"})),
        (400, post("/v1/videos", data={"prompt": "x"}, files={"other": b"x"})),
        (422, post("/v1/videos", data={"prompt": "x"}, files={"input_reference": b"no picture"})),
        (400, post("/v1/videos", data={"prompt": "x"}, files={"image_reference": film.read_bytes()})),
        (400, post("/v1/videos", data={"prompt": "x"}, files={"input_reference": sound.read_bytes()})),
        (400, post("/v1/videos/edits", data={"prompt": "x"})),
        (400, post("/v1/videos/extensions", data={"prompt": "x"}, files={"video": film.read_bytes()})),
        (404, post("/v1/videos", json={"prompt": "x", "video_reference": {"id": "video_0"}})),
        (404, get("/v1/models/other")),
    ]
    for index, (status, answer) in enumerate(answers):
        assert answer.status_code == status, (index, answer.text)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"], index


def test_the_model_health_metrics_and_pages(server: Server) -> None:
    (model,) = server.client.get("/v1/models").json()["data"]
    assert model["sizes"] == ["32x32", "64x64"] and model["frames"] == [17]
    assert {"name": "image_to_video", "takes": {"image": True, "text": False}, "makes": "video", "sound": False} in [
        {**task, "takes": dict(sorted(task["takes"].items()))} for task in model["tasks"]
    ]
    assert server.client.get("/health").json()["status"] == "ok"
    server.over(server.create()["id"])
    text = server.wait_until(
        lambda: (text := server.client.get("/metrics").text) and "videolm_tokens_total 0.0" not in text and text
    )
    assert 'videolm_requests_total{method="POST",route="/v1/videos",status="200"}' in text
    assert 'videolm_jobs_ended_total{outcome="completed",task="text_to_video"}' in text
    api = server.client.get("/openapi.json").json()
    fields = api["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {"prompt", "input_reference", "seconds", "task"} <= fields.keys()
    for path in ("/", "/docs", "/page/app.js", "/page/style.css", "/page/docs.js"):
        answer = server.client.get(path)
        assert answer.status_code == 200 and "http://" not in answer.text and "https://" not in answer.text


def test_the_log_has_no_prompts(server: Server) -> None:
    server.over(server.create(prompt="a secret wish")["id"])
    lines = [line for line in server.log if line["message"] == "request"]
    assert {"request", "method", "path", "status", "seconds", "owner", "time", "level"} <= lines[-1].keys()
    assert "secret wish" not in server._log.read_text()


def test_two_hundred_requests_at_twenty_at_once(server: Server) -> None:
    """None lost, none doubled."""
    ids, lock = list[str](), threading.Lock()

    def ask() -> None:
        for _ in range(10):
            made = server.client.post("/v1/videos", json={"prompt": PROMPT, "task": "text_to_image"})
            while made.status_code == 429:  # the queue is full
                made = server.client.post("/v1/videos", json={"prompt": PROMPT, "task": "text_to_image"})
            with lock:
                ids.append(made.json()["id"])

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 200
    found = [server.over(id, 120) for id in ids]
    assert [each["status"] for each in found] == ["completed"] * 200
    assert len({each["seed"] for each in found}) == 200
