"""Serve a model over HTTP: OpenAI's videos API with every task of the model, and a page for people.

Jobs wait in DATA, which outlives the server. docs/guides/serving.md shows the calls, and what to put before it.

examples:
  videolm serve
  videolm serve --model runs/mine/model --port 8080 --api-keys keys.txt --data /var/lib/videolm
  videolm serve --new-key alice --api-keys keys.txt
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import socket
from pathlib import Path

import torch

from videolm.cli.arguments import add_decoding, add_model, decoding_of
from videolm.cli.output import say
from videolm.config import parse, read_yaml
from videolm.errors import UserError
from videolm.pipeline.folder import load_outline, model_folder, model_hash

OPEN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", metavar="N", type=int, default=8000, help="0: any that is free (default: 8000)")
    parser.add_argument(
        "--data", metavar="DIR", default="outputs/serve", help="jobs and files (default: outputs/serve)"
    )
    parser.add_argument("--name", help="of the model, as clients call it (default: its folder's)")
    parser.add_argument("--api-keys", metavar="FILE", help="hashes of the keys that may ask (default: everybody may)")
    parser.add_argument("--new-key", metavar="NAME", help="print a new key, add its hash to --api-keys, and end")
    parser.add_argument("--device", action="append", help="of a worker, for example cuda:1; may be given again")
    parser.add_argument("--allow-host", metavar="HOST", action="append", help="that references may be read from")
    parser.add_argument("--allow-origin", metavar="URL", action="append", help="of pages elsewhere that may ask")
    parser.add_argument("--limits", metavar="FILE", help="a YAML file with other limits (docs/guides/serving.md)")
    add_decoding(parser)


def run(args: argparse.Namespace) -> None:
    try:
        import uvicorn

        from videolm.serve.api import Service
        from videolm.serve.app import create_app
        from videolm.serve.folders import Folders
        from videolm.serve.guard import Guard, Keys
        from videolm.serve.limits import Limits
        from videolm.serve.logs import configure
        from videolm.serve.metrics import Metrics
        from videolm.serve.worker import Worker
        from videolm.serve.workers import Workers
    except ImportError as error:
        raise UserError(f"serving needs {error.name}: pip install 'videolm[serve]'") from error
    if args.new_key is not None:
        return new_key(args)
    keys = Keys() if args.api_keys is None else Keys.read(Path(args.api_keys))
    folder, data = model_folder(args.model), Path(args.data)
    limits = parse(Limits, {} if args.limits is None else read_yaml(args.limits), source=args.limits or "")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = (data / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"another server has {data}: choose another --data") from error
    configure()
    devices = args.device or (["cuda"] if torch.cuda.is_available() else ["cpu"])
    threads = max(1, torch.get_num_threads() // len(devices))
    metrics, decoding = Metrics(), decoding_of(args)
    workers = [
        Worker(f"worker-{index}", folder, data, device, decoding, limits, threads)
        for index, device in enumerate(devices)
    ]
    name = args.name or f"{folder.name}@{model_hash(folder)}"
    service = Service(
        name,
        load_outline(folder),
        Folders(data),
        limits,
        metrics,
        Workers(workers, metrics),
        frozenset(args.allow_host or ()),
    )
    app = Guard(create_app(service), keys=keys, limits=limits, metrics=metrics, origins=args.allow_origin or ())
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=2**16,
    )
    with _listening(args.host, args.port) as listening:
        signal.signal(signal.SIGTERM, lambda *_: None)  # which uvicorn raises again once it has stopped
        say(f"{name} at http://{args.host}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run([listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that is bound. Raises `UserError` where it cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), backlog=1024, family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error}") from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each answer waits for 40 ms
    return listening


def new_key(args: argparse.Namespace) -> None:
    """Make a key; only its hash is kept."""
    from videolm.serve.guard import Keys

    if args.api_keys is None:
        raise UserError("--new-key goes with --api-keys FILE, where its hash is added")
    key = Keys.new()
    with Path(args.api_keys).open("a", encoding="utf-8") as file:
        file.write(f"{Keys.hash(key)} {args.new_key}\n")
    print(key)
