"""A server under load: requests at once against one after the other, and its memory over the run.

Claim: of 200 requests at 20 at a time none is lost or doubled; what decodes together is made faster than one by one;
memory does not grow over the run.
Run: python benchmarks/serving.py [--model DIR] [--requests 200] [--at-once 20]

Each row is a server of its own, begun for it; "rows" is how many videos decode together. Seconds are from a request to
its file, those in the queue with it. MB are of the server, its worker and what else it began, when a tenth of the
requests are done and when all are.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import psutil

PROMPT = "a small red circle moves right on a white background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder (default: the one that ships)")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    args = parser.parse_args()
    print("| at once | rows | requests | lost | doubled | p50 s | p95 s | videos a minute | MB, a tenth done | all |")
    print("| --- " * 10 + "|")
    for at_once, rows in ((1, 1), (args.at_once, 1), (args.at_once, 8)):
        print(row(args.model, at_once, rows, args.requests), flush=True)


def row(model: str | None, at_once: int, rows: int, count: int) -> str:
    """What becomes of so many requests by so many clients."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [
            sys.executable,
            "-m",
            "videolm",
            "serve",
            "--port",
            "0",
            "--data",
            f"{folder}/data",
            "--rows",
            str(rows),
        ]
        with log.open("w") as file:
            server = subprocess.Popen([*command, *(["--model", model] if model else [])], stdout=file, stderr=file)
        try:
            client = httpx.Client(base_url=address(log), timeout=600)
            while client.get("/health").status_code != 200:
                time.sleep(0.1)
            make(client, 0)
            begun = time.perf_counter()
            seconds, ids = ask(client, at_once, range(1, count // 10 + 1))
            before = memory(server.pid)
            more, others = ask(client, at_once, range(count // 10 + 1, count + 1))
            whole, after = time.perf_counter() - begun, memory(server.pid)
        finally:
            server.terminate()
            server.wait()
    seconds, ids = sorted(seconds + more), ids + others
    counts = f"| {at_once} | {rows} | {count} | {count - len(ids)} | {len(ids) - len(set(ids))} "
    times = f"| {statistics.median(seconds):.2f} | {seconds[int(0.95 * (count - 1))]:.2f} | {60 * count / whole:.0f} "
    return f"{counts}{times}| {before / 2**20:.0f} | {after / 2**20:.0f} |"


def ask(client: httpx.Client, at_once: int, seeds: Iterable[int]) -> tuple[list[float], list[str]]:
    """Seconds of each request and the ids of what came back whole."""
    seconds, ids, left, lock = list[float](), list[str](), list(seeds), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not left:
                    return
                seed = left.pop(0)
            begun = time.perf_counter()
            id = make(client, seed)
            with lock:
                seconds.append(time.perf_counter() - begun)
                ids.append(id)

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, ids


def make(client: httpx.Client, seed: int) -> str:
    """Make a video and read it; its id."""
    answer = client.post("/v1/videos/sync", data={"prompt": PROMPT, "seed": str(seed)})
    answer.raise_for_status()
    assert b"ftyp" in answer.content[:16]
    return answer.headers["x-video-id"]


def address(log: Path) -> str:
    while not (found := re.search(r" at (http://\S+)/", log.read_text())):
        time.sleep(0.1)
    return found[1]


def memory(pid: int) -> int:
    """Bytes that a process and its children hold."""
    server = psutil.Process(pid)
    return sum(process.memory_info().rss for process in (server, *server.children(recursive=True)))


if __name__ == "__main__":
    main()
