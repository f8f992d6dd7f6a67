"""A cloud that starts nothing, for the tests, and the endpoints on it: `python played.py PORT SECRET HOST`."""

from __future__ import annotations

import dataclasses
import http.server
import json
import sys
from collections.abc import Mapping
from typing import Any

import endpoints


@dataclasses.dataclass
class PlayedMachine:
    object_id: str
    order: endpoints.Order
    running: bool = True
    written: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: list[str] = dataclasses.field(default_factory=list)
    # Tries until the addresses of ports are known.
    tunnels_after: int = 0

    def tunnels(self) -> Mapping[int, str]:
        if self.tunnels_after > 0:
            self.tunnels_after -= 1
            return {}
        return {port: f"https://{self.object_id}-{port}.modal.example" for port in self.order.ports}

    def write(self, path: str, text: str) -> None:
        self.written[path] = text

    def tags(self) -> Mapping[str, str]:
        return self.order.tags

    def snapshot(self, seconds: int) -> str:
        if not self.running:
            raise endpoints.Missing
        return f"im-{self.object_id}"

    def send_line(self, line: str) -> None:
        self.lines.append(line)

    def terminate(self) -> None:
        self.running = False


class PlayedCloud:
    def __init__(self) -> None:
        self.machines: list[PlayedMachine] = []
        self.tunnels_after = 0
        self.images: set[str] | None = None

    def start(self, order: endpoints.Order) -> PlayedMachine:
        for machine in self.machines:
            if machine.order.name == order.name and machine.running:
                return machine
        if order.image_id and self.images is not None and order.image_id not in self.images:
            raise endpoints.Failed(f"Image {order.image_id} was not found")
        object_id = f"sb-{len(self.machines) + 1}"
        self.machines.append(PlayedMachine(object_id, order, tunnels_after=self.tunnels_after))
        return self.machines[-1]

    def by_id(self, object_id: str) -> PlayedMachine:
        return self._found(lambda machine: machine.object_id == object_id)

    def by_name(self, name: str) -> PlayedMachine:
        return self._found(lambda machine: machine.order.name == name)

    def _found(self, fits: Any) -> PlayedMachine:
        for machine in self.machines:
            if machine.running and fits(machine):
                return machine
        raise endpoints.Missing


def serve(port: int, secret: str, host: str) -> None:
    cloud = PlayedCloud()
    app = endpoints.App(cloud, endpoints.Settings(secret=secret, allowed_hosts=frozenset([host])))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            endpoint = self.path.lstrip("/")
            raw = self.rfile.read(int(self.headers.get("content-length", "0")))
            if endpoint in endpoints.FIELDS:
                status, answer = app.answer(endpoint, self.headers.get("authorization", ""), json.loads(raw or b"null"))
            else:
                status, answer = 404, {"detail": "invalid function call"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:  # noqa: N802
            """What the tests look at: the machines so far."""
            body = json.dumps([
                {
                    "objectId": machine.object_id,
                    "running": machine.running,
                    "imageId": machine.order.image_id,
                    "environment": dict(machine.order.environment),
                }
                for machine in cloud.machines
            ]).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
