"""What the app does, apart from Modal and from HTTP: checks a call, and asks a cloud.

`app.py` gives it Modal's cloud; the tests give it one of their own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

Json = dict[str, Any]

FIELDS: dict[str, dict[str, bool]] = json.loads(pathlib.Path(__file__).with_name("endpoints.json").read_text())

CODE_SERVER_PORT = 8080
DESKTOP_PORT = 6080
# Where the desktop and the terminal listen inside.
RESERVED_PORTS = {5900, 7681}
MAX_TUNNELS = 10
MAX_LIFE_SECONDS = 86_400
SNAPSHOT_SECONDS = 300
SIGNATURE_MS = 5 * 60 * 1000
TUNNELS_FILE = "/workspace/.tunnels.env"
RUNTIME = ("sandbox-bridge", "supervise", "--config-env")
BUILD_RUNTIME = (*RUNTIME, "--await-modal-image-build-token-stdin-v1")
# The users' own variables of these names would change how a sandbox boots.
RESERVED = {
    "IMAGE_BUILD_MODE", "RESTORED_FROM_SNAPSHOT", "FROM_REPO_IMAGE", "REPO_IMAGE_SHA", "TERMINAL_ENABLED",
    "AGENT_SLACK_NOTIFY_ENABLED", "SESSION_CONFIG", "VNC_PASSWORD", "NOVNC_PORT", "CODE_SERVER_PASSWORD",
    "CODE_SERVER_PORT", "EXPECTED_TUNNEL_PORTS",
}  # fmt: skip
FORGES = {
    "github": ("github.com", "x-access-token"),
    "gitlab": ("gitlab.com", "oauth2"),
    "bitbucket": ("bitbucket.org", "x-token-auth"),
}


class Refused(Exception):
    """Answered with an HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Failed(Exception):
    """Answered with status 200 and `success: false`: the sentence is for people and holds no secret."""


class Missing(Exception):
    """The cloud does not have it."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the app is deployed with."""

    secret: str
    allowed_hosts: frozenset[str]
    scm_provider: str = "github"


@dataclasses.dataclass(frozen=True)
class Order:
    """A sandbox to start."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    # The app's own image without one.
    image_id: str | None
    timeout: int
    ports: Sequence[int]
    tags: Mapping[str, str]
    cpu: float | None = None
    memory: int | None = None
    # Whether the deployment's model keys are given.
    model_keys: bool = True


class Handle(Protocol):
    """A sandbox at the cloud."""

    @property
    def object_id(self) -> str: ...

    def tunnels(self) -> Mapping[int, str]:
        """Addresses of the open ports."""
        ...

    def write(self, path: str, text: str) -> None: ...

    def tags(self) -> Mapping[str, str]: ...

    def snapshot(self, seconds: int) -> str:
        """Keeps the files for good; answers the image's id."""
        ...

    def send_line(self, line: str) -> None:
        """Writes to its standard input."""
        ...

    def terminate(self) -> None: ...


class Cloud(Protocol):
    """Where sandboxes run. What is not there is `Missing`."""

    def start(self, order: Order) -> Handle:
        """Starts it, or gives the one of that name that runs."""
        ...

    def by_id(self, object_id: str) -> Handle: ...

    def by_name(self, name: str) -> Handle: ...


def is_signed(secret: str, authorization: str, now_ms: int) -> bool:
    """Whether a call carries `Bearer <ms>.<hex HMAC-SHA256 of ms>`, made within five minutes."""
    match = re.fullmatch(r"Bearer (\d{1,16})\.([0-9a-f]{64})", authorization)
    if not match:
        return False
    expected = hmac.new(secret.encode(), match[1].encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, match[2]) and abs(now_ms - int(match[1])) <= SIGNATURE_MS


def named(sandbox_id: str) -> str:
    """Modal's name of a sandbox: at most 64 letters."""
    if re.fullmatch(r"[A-Za-z0-9-_.]{1,64}", sandbox_id):
        return sandbox_id
    return "oi-" + hashlib.sha256(sandbox_id.encode()).hexdigest()[:40]


def label(text: str) -> str:
    """Modal's value of a tag: at most 63 letters."""
    return re.sub(r"[^A-Za-z0-9-_.]", "_", text)[:63]


def password(secret: str, what: str, sandbox_id: str) -> str:
    """The same each time, so that a sandbox that is found again has the one that it was started with."""
    return hmac.new(secret.encode(), f"{what}:{sandbox_id}".encode(), hashlib.sha256).hexdigest()


def checked(endpoint: str, body: Any) -> Json:
    """The body, when it has the endpoint's fields and no others."""
    fields = FIELDS[endpoint]
    if not isinstance(body, dict):
        raise Refused(400, "The body is no object")
    for name in body:
        if name not in fields:
            raise Refused(400, f"`{name}` is no field of {endpoint}")
    for name, needed in fields.items():
        if needed and body.get(name) in (None, ""):
            raise Refused(400, f"`{name}` is missing")
    return body


def texts(body: Json, name: str) -> dict[str, str]:
    """An object of texts."""
    value = body.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Refused(400, f"`{name}` is no object of texts")
    return value


def text(body: Json, name: str) -> str:
    """A text, or an empty one."""
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise Refused(400, f"`{name}` is no text")
    return value


def seconds(body: Json, name: str, default: int) -> int:
    """A number of seconds of life."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIFE_SECONDS:
        raise Refused(400, f"`{name}` is no number of seconds up to {MAX_LIFE_SECONDS}")
    return value


@dataclasses.dataclass(frozen=True)
class Doors:
    """Ports that are open: of code-server and the desktop's page, where they run, and of the users' own programs."""

    code_server: int | None
    desktop: int | None
    tunnels: tuple[int, ...]

    @property
    def ports(self) -> list[int]:
        return [port for port in (self.code_server, self.desktop, *self.tunnels) if port is not None]


def doors(body: Json) -> Doors:
    """By what a call says. No two are one."""
    settings = body.get("sandbox_settings") or {}
    if not isinstance(settings, dict):
        raise Refused(400, "`sandbox_settings` is no object")

    def service(enabled: str, name: str, default: int) -> int | None:
        given = settings.get(name)
        return (default if given is None else given) if body.get(enabled) is True else None

    tunnels = settings.get("tunnelPorts") or []
    if not isinstance(tunnels, list) or len(tunnels) > MAX_TUNNELS:
        raise Refused(400, "`tunnelPorts` is no list of up to ten ports")
    opened = Doors(
        service("code_server_enabled", "codeServerPort", CODE_SERVER_PORT),
        service("vnc_enabled", "vncPort", DESKTOP_PORT),
        tuple(tunnels),
    )
    if not all(isinstance(p, int) and 1 <= p <= 65535 and p not in RESERVED_PORTS for p in opened.ports):
        raise Refused(400, "a port is none, or is reserved")
    if len(set(opened.ports)) != len(opened.ports):
        raise Refused(400, "two ports are one")
    return opened


class App:
    """The endpoints."""

    def __init__(
        self,
        cloud: Cloud,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cloud = cloud
        self.settings = settings
        self.now = now
        self.sleep = sleep

    def answer(self, endpoint: str, authorization: str, body: Any) -> tuple[int, Json]:
        """Status and body of the answer to a call."""
        try:
            if not self.settings.secret:
                raise Refused(503, "MODAL_API_SECRET is not set")
            if not is_signed(self.settings.secret, authorization, int(self.now() * 1000)):
                raise Refused(401, "Unauthorized")
            handler = getattr(self, endpoint.removeprefix("api-").replace("-", "_"))
            return 200, {"success": True, "data": handler(checked(endpoint, body))}
        except Refused as refused:
            return refused.status, {"detail": refused.detail}
        except Missing:
            return 404, {"detail": "Sandbox not found"}
        except Failed as failed:
            return 200, {"success": False, "error": str(failed)}

    # Sessions

    def create_sandbox(self, body: Json) -> Json | None:
        config = {
            name: body.get(name)
            for name in ("session_id", "repo_owner", "repo_name", "branch", "opencode_session_id", "provider", "model")
        }
        for name in ("mcp_servers", "repositories"):
            if body.get(name):
                config[name] = body[name]
        image = text(body, "repo_image_id") or None
        boot = {"FROM_REPO_IMAGE": "true", "REPO_IMAGE_SHA": text(body, "repo_image_sha")} if image else {}
        started = self._start(body, config, image, boot)
        started["created_at"] = int(self.now())
        return started

    def restore_sandbox(self, body: Json) -> Json | None:
        config = body["session_config"]
        if not isinstance(config, dict):
            raise Refused(400, "`session_config` is no object")
        return self._start(body, config, text(body, "snapshot_image_id"), {"RESTORED_FROM_SNAPSHOT": "true"})

    def _start(self, body: Json, config: Json, image: str | None, boot: Mapping[str, str]) -> Json:
        url = text(body, "control_plane_url")
        if urlsplit(url).netloc not in self.settings.allowed_hosts:
            raise Refused(400, "`control_plane_url` is not one of ALLOWED_CONTROL_PLANE_HOSTS")
        sandbox_id, opened = text(body, "sandbox_id"), doors(body)
        given = body.get("sandbox_settings") or {}
        life = seconds(body, "timeout_seconds", 7200)
        environment = self._environment(texts(body, "user_env_vars"), config)
        environment |= {
            "SANDBOX_ID": sandbox_id,
            "CONTROL_PLANE_URL": url,
            "SANDBOX_AUTH_TOKEN": text(body, "sandbox_auth_token"),
            "SANDBOX_TIMEOUT_SECONDS": str(life),
            **boot,
        }
        if body.get("agent_slack_notify_enabled") is True:
            environment["AGENT_SLACK_NOTIFY_ENABLED"] = "true"
        if given.get("terminalEnabled") is True:
            environment["TERMINAL_ENABLED"] = "true"
        if opened.code_server is not None:
            environment["CODE_SERVER_PORT"] = str(opened.code_server)
            environment["CODE_SERVER_PASSWORD"] = self._code_server_password(sandbox_id)
        if opened.desktop is not None:
            environment["NOVNC_PORT"] = str(opened.desktop)
            environment["VNC_PASSWORD"] = self._desktop_password(sandbox_id)
        if opened.tunnels:
            environment["EXPECTED_TUNNEL_PORTS"] = ",".join(map(str, opened.tunnels))
        handle = self.cloud.start(
            Order(
                name=named(sandbox_id),
                command=RUNTIME,
                environment=environment,
                image_id=image,
                timeout=life,
                ports=opened.ports,
                tags={
                    "openinspect_kind": "session",
                    "openinspect_session_id": label(str(config.get("session_id") or "")),
                    "openinspect_code_server": str(opened.code_server is not None).lower(),
                    "openinspect_desktop": str(opened.desktop is not None).lower(),
                },
                cpu=given.get("cpuCores"),
                memory=given.get("memoryMib"),
            )
        )
        urls = self._urls(handle, opened.ports)
        if opened.tunnels:
            lines = [f"TUNNEL_SANDBOX_ID={sandbox_id}"]
            lines += [f"TUNNEL_{port}={urls[port]}" for port in opened.tunnels if port in urls]
            handle.write(TUNNELS_FILE, "\n".join(lines) + "\n")
        return self._described(sandbox_id, handle, opened, urls)

    def find_sandbox(self, body: Json) -> Json | None:
        sandbox_id, opened = text(body, "sandbox_id"), doors(body)
        try:
            handle = self.cloud.by_name(named(sandbox_id))
        except Missing:
            return None
        return self._described(sandbox_id, handle, opened, dict(handle.tunnels())) | {"running": True}

    def stop_sandbox(self, body: Json) -> Json | None:
        object_id = text(body, "provider_object_id")
        try:
            by = self.cloud.by_id(object_id) if object_id else self.cloud.by_name(named(text(body, "sandbox_id")))
            by.terminate()
        except Missing:
            pass
        return {"terminated": True}

    def snapshot_sandbox(self, body: Json) -> Json | None:
        object_id = text(body, "sandbox_id")
        image = self.cloud.by_id(object_id).snapshot(SNAPSHOT_SECONDS)
        return {
            "image_id": image,
            "sandbox_id": object_id,
            "session_id": text(body, "session_id"),
            "reason": text(body, "reason"),
        }

    # Builds of repositories' images

    def create_build_sandbox(self, body: Json) -> Json | None:
        build = text(body, "build_id")
        repositories = body["repositories"]
        if not isinstance(repositories, list) or not all(isinstance(one, dict) for one in repositories):
            raise Refused(400, "`repositories` is no list of objects")
        config = {"branch": repositories[0].get("branch"), "repositories": repositories}
        environment = self._environment(texts(body, "user_env_vars"), config)
        environment |= {
            "SANDBOX_ID": f"build-{build}",
            "IMAGE_BUILD_MODE": "true",
            "OI_IMAGE_BUILD_EXECUTION_TIMEOUT_SECONDS": str(seconds(body, "build_execution_timeout_seconds", 1800)),
            "OI_REPO_IMAGE_BUILD_ID": build,
            "OI_REPO_IMAGE_CALLBACK_URL": text(body, "callback_url"),
            "OI_REPO_IMAGE_FAILURE_CALLBACK_URL": text(body, "failure_callback_url"),
        }
        for name, field in (
            ("VCS_CLONE_TOKEN", "clone_token"),
            ("VCS_HOST", "clone_host"),
            ("VCS_CLONE_USERNAME", "clone_username"),
        ):
            if text(body, field):
                environment[name] = text(body, field)
        handle = self.cloud.start(
            Order(
                name=named(f"build-{build}"),
                command=BUILD_RUNTIME,
                environment=environment,
                image_id=None,
                timeout=seconds(body, "provider_session_timeout_seconds", 2400),
                ports=(),
                tags={
                    "openinspect_kind": "image-build",
                    "openinspect_build_id": label(build),
                    "openinspect_scope_kind": label(text(body, "scope_kind")),
                    "openinspect_scope_id": label(text(body, "scope_id")),
                    "openinspect_launch_protocol": "stdin-token-v1",
                },
                model_keys=False,
            )
        )
        return {"provider_session_id": handle.object_id}

    def _build(self, body: Json) -> Handle:
        """The machine of a build: one of another build is not there."""
        handle = self.cloud.by_id(text(body, "provider_session_id"))
        tags = handle.tags()
        ours = tags.get("openinspect_kind") == "image-build"
        if not ours or tags.get("openinspect_build_id") != label(text(body, "build_id")):
            raise Missing
        return handle

    def start_build_sandbox(self, body: Json) -> Json | None:
        token = text(body, "callback_token")
        if not re.fullmatch(r"[0-9a-f]{64}", token):
            raise Refused(400, "`callback_token` is not 64 hex digits")
        self._build(body).send_line(token)
        return {"started": True}

    def snapshot_build_sandbox(self, body: Json) -> Json | None:
        image = self._build(body).snapshot(SNAPSHOT_SECONDS)
        session = text(body, "provider_session_id")
        return {"image_id": image, "build_id": text(body, "build_id"), "provider_session_id": session}

    def terminate_build_sandbox(self, body: Json) -> Json | None:
        try:
            self._build(body).terminate()
        except Missing:
            pass
        return {"terminated": True}

    def delete_provider_image(self, body: Json) -> Json | None:
        # Modal drops images that nothing uses by itself.
        return {"provider_image_id": text(body, "provider_image_id"), "deleted": True}

    # What they share

    def _environment(self, users: Mapping[str, str], config: Json) -> dict[str, str]:
        host, user = FORGES.get(self.settings.scm_provider, FORGES["github"])
        environment = {name: value for name, value in users.items() if name not in RESERVED}
        primary = config if config.get("repo_owner") else (config.get("repositories") or [{}])[0]
        return environment | {
            "PYTHONUNBUFFERED": "1",
            "REPO_OWNER": primary.get("repo_owner") or "",
            "REPO_NAME": primary.get("repo_name") or "",
            "SESSION_CONFIG": json.dumps(config, separators=(",", ":")),
            "VCS_HOST": host,
            "VCS_CLONE_USERNAME": user,
        }

    def _code_server_password(self, sandbox_id: str) -> str:
        return password(self.settings.secret, "code-server", sandbox_id)[:32]

    def _desktop_password(self, sandbox_id: str) -> str:
        # VNC takes eight letters.
        return password(self.settings.secret, "vnc", sandbox_id)[:8]

    def _urls(self, handle: Handle, ports: Sequence[int]) -> dict[int, str]:
        """Addresses of the ports, as far as they come within three tries."""
        urls: dict[int, str] = {}
        for pause in (0, 1, 2):
            self.sleep(pause)
            urls = dict(handle.tunnels()) if ports else {}
            if all(port in urls for port in ports):
                break
        return urls

    def _described(self, sandbox_id: str, handle: Handle, opened: Doors, urls: Mapping[int, str]) -> Json:
        code_server = urls.get(opened.code_server) if opened.code_server is not None else None
        desktop = urls.get(opened.desktop) if opened.desktop is not None else None
        return {
            "sandbox_id": sandbox_id,
            "modal_object_id": handle.object_id,
            "status": "warming",
            "code_server_url": code_server,
            "code_server_password": self._code_server_password(sandbox_id) if code_server else None,
            "vnc_url": desktop,
            "vnc_password": self._desktop_password(sandbox_id) if desktop else None,
            # The terminal comes through the bridge.
            "ttyd_url": None,
            "tunnel_urls": {str(port): urls[port] for port in opened.tunnels if port in urls},
        }
