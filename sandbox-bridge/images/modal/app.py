"""The app at Modal: `modal deploy app.py`. What it does is in `endpoints.py`.

Secrets of the workspace: `internal-api` (MODAL_API_SECRET, ALLOWED_CONTROL_PLANE_HOSTS, SCM_PROVIDER) and `llm-api-keys`
(the model vendors' keys). OPEN_INSPECT_IMAGE names the image of sandboxes when the app is deployed: what `image.py` printed, or
one of a registry.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import fastapi
import modal

import endpoints

HERE = pathlib.Path(__file__).parent
APP = "open-inspect"

app = modal.App(APP)
internal = modal.Secret.from_name("internal-api")
web_image = (
    modal.Image.debian_slim(python_version="3.12")
    .pip_install("fastapi==0.165.0")
    .env({"OPEN_INSPECT_IMAGE": os.environ.get("OPEN_INSPECT_IMAGE", "")})
    .add_local_file(HERE / "endpoints.json", "/root/endpoints.json")
    .add_local_python_source("endpoints")
)


def sandboxes_image(name: str) -> modal.Image:
    """The image of sandboxes: what `image.py` printed, or one of a registry."""
    return modal.Image.from_id(name) if name.startswith("im-") else modal.Image.from_registry(name)


class Machine:
    """A sandbox of Modal's."""

    def __init__(self, sandbox: modal.Sandbox) -> None:
        self._sandbox = sandbox

    @property
    def object_id(self) -> str:
        return self._sandbox.object_id

    def tunnels(self) -> Mapping[int, str]:
        try:
            return {port: tunnel.url for port, tunnel in self._sandbox.tunnels(timeout=10).items()}
        except modal.exception.SandboxTimeoutError:
            return {}

    def write(self, path: str, text: str) -> None:
        self._sandbox.filesystem.write_text(text, path)

    def tags(self) -> Mapping[str, str]:
        return self._sandbox.get_tags()

    def snapshot(self, seconds: int) -> str:
        return self._sandbox.snapshot_filesystem(timeout=seconds, ttl=None).object_id

    def send_line(self, line: str) -> None:
        self._sandbox.stdin.write(line + "\n")
        self._sandbox.stdin.drain()

    def terminate(self) -> None:
        self._sandbox.terminate()


class Modal:
    """Modal's cloud."""

    def start(self, order: endpoints.Order) -> Machine:
        name = os.environ.get("OPEN_INSPECT_IMAGE", "")
        if order.image_id is None and not name:
            raise endpoints.Refused(503, "OPEN_INSPECT_IMAGE was not set when the app was deployed")
        image = modal.Image.from_id(order.image_id) if order.image_id else sandboxes_image(name)
        # As a secret, so that no page of Modal's shows it.
        secrets = [modal.Secret.from_dict({key: value for key, value in order.environment.items()})]
        if order.model_keys:
            secrets.insert(0, modal.Secret.from_name("llm-api-keys"))
        try:
            sandbox = modal.Sandbox.create(
                *order.command,
                app=app,
                name=order.name,
                tags=dict(order.tags),
                image=image,
                secrets=secrets,
                timeout=order.timeout,
                workdir="/workspace",
                encrypted_ports=list(order.ports),
                cpu=order.cpu,
                memory=order.memory,
            )
        except modal.exception.AlreadyExistsError:
            return self.by_name(order.name)
        except modal.exception.NotFoundError as error:
            # An image that is gone: another try does not bring it back.
            raise endpoints.Failed(str(error)) from error
        return Machine(sandbox)

    def by_id(self, object_id: str) -> Machine:
        return self._found(lambda: modal.Sandbox.from_id(object_id))

    def by_name(self, name: str) -> Machine:
        return self._found(lambda: modal.Sandbox.from_name(APP, name))

    @staticmethod
    def _found(look: Any) -> Machine:
        try:
            return Machine(look())
        except (modal.exception.NotFoundError, modal.exception.InvalidError) as error:
            raise endpoints.Missing from error


def served(endpoint: str, authorization: str, body: Any) -> fastapi.responses.JSONResponse:
    hosts = os.environ.get("ALLOWED_CONTROL_PLANE_HOSTS", "").split(",")
    settings = endpoints.Settings(
        secret=os.environ.get("MODAL_API_SECRET", ""),
        allowed_hosts=frozenset(host.strip() for host in hosts if host.strip()),
        scm_provider=os.environ.get("SCM_PROVIDER", "github"),
    )
    try:
        status, answer = endpoints.App(Modal(), settings).answer(endpoint, authorization, body)
    except modal.exception.Error as error:
        # The kind is for people; the rest may hold what was sent.
        status, answer = 200, {"success": False, "error": f"Modal: {type(error).__name__}"}
    return fastapi.responses.JSONResponse(answer, status_code=status)


SIGNATURE = fastapi.Header("", alias="authorization")
BODY = fastapi.Body(None)


@app.function(image=web_image, secrets=[internal], timeout=90)
@modal.fastapi_endpoint(method="POST")
def api_create_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-create-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=90)
@modal.fastapi_endpoint(method="POST")
def api_restore_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-restore-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=60)
@modal.fastapi_endpoint(method="POST")
def api_find_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-find-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=60)
@modal.fastapi_endpoint(method="POST")
def api_stop_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-stop-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=330)
@modal.fastapi_endpoint(method="POST")
def api_snapshot_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-snapshot-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=90)
@modal.fastapi_endpoint(method="POST")
def api_create_build_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-create-build-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=90)
@modal.fastapi_endpoint(method="POST")
def api_start_build_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-start-build-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=330)
@modal.fastapi_endpoint(method="POST")
def api_snapshot_build_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-snapshot-build-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=90)
@modal.fastapi_endpoint(method="POST")
def api_terminate_build_sandbox(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-terminate-build-sandbox", authorization, body)


@app.function(image=web_image, secrets=[internal], timeout=60)
@modal.fastapi_endpoint(method="POST")
def api_delete_provider_image(body: Any = BODY, authorization: str = SIGNATURE) -> Any:
    return served("api-delete-provider-image", authorization, body)


@app.function(image=web_image, timeout=30)
@modal.fastapi_endpoint(method="GET")
def api_health() -> Any:
    return {"status": "healthy", "service": APP}
