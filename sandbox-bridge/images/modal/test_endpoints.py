"""Tests of the app: its endpoints on a played cloud, and what it asks of the real `modal` package.

`python -m unittest` runs them; without the packages `modal` and `fastapi` the second part is left out.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import inspect
import json
import os
import unittest
from typing import Any
from unittest import mock

import endpoints
from played import PlayedCloud

SECRET = "the app's own secret"
NOW = 1_800_000_000.0
TOKEN = "ab" * 32


def bearer(secret: str = SECRET, at: float = NOW) -> str:
    ms = str(int(at * 1000))
    return f"Bearer {ms}.{hmac.new(secret.encode(), ms.encode(), hashlib.sha256).hexdigest()}"


def create(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "session_id": "s1",
        "sandbox_id": "sandbox-1",
        "repo_owner": "acme",
        "repo_name": "app",
        "branch": "main",
        "provider": "anthropic",
        "model": "claude-sonnet-4-6",
        "control_plane_url": "https://cp.example",
        "sandbox_auth_token": "t" * 32,
        "user_env_vars": {"MINE": "yes", "IMAGE_BUILD_MODE": "true", "VNC_PASSWORD": "forged"},
        "timeout_seconds": 3600,
        "code_server_enabled": True,
        "vnc_enabled": True,
        "sandbox_settings": {"tunnelPorts": [3000]},
    }
    return body | changes


class Endpoints(unittest.TestCase):
    def setUp(self) -> None:
        self.cloud = PlayedCloud()
        self.pauses: list[float] = []
        settings = endpoints.Settings(secret=SECRET, allowed_hosts=frozenset(["cp.example"]))
        self.app = endpoints.App(self.cloud, settings, now=lambda: NOW, sleep=self.pauses.append)

    def call(self, endpoint: str, body: Any) -> tuple[int, Any]:
        return self.app.answer(endpoint, bearer(), body)

    def data(self, endpoint: str, body: Any) -> Any:
        status, answer = self.call(endpoint, body)
        self.assertEqual((status, answer.get("success")), (200, True), answer)
        return answer["data"]

    def test_only_signed_calls_of_the_last_minutes_are_answered(self) -> None:
        refused = ["", "Bearer", "Bearer 1.2", bearer("another"), bearer(at=NOW - 301), bearer(at=NOW + 301), bearer().upper()]
        for authorization in refused:
            status, _ = self.app.answer("api-create-sandbox", authorization, create())
            self.assertEqual(status, 401, authorization)
        for at in (NOW - 299, NOW + 299):
            self.assertEqual(self.app.answer("api-create-sandbox", bearer(at=at), create())[0], 200)
        self.app.settings = endpoints.Settings(secret="", allowed_hosts=frozenset())
        self.assertEqual(self.call("api-create-sandbox", create())[0], 503)

    def test_a_sandbox_gets_the_platforms_variables_over_the_users(self) -> None:
        data = self.data("api-create-sandbox", create())
        order = self.cloud.machines[0].order
        environment = order.environment
        self.assertEqual(environment["MINE"], "yes")
        self.assertNotIn("IMAGE_BUILD_MODE", environment)
        self.assertEqual(environment["VNC_PASSWORD"], data["vnc_password"])
        self.assertEqual(len(data["vnc_password"]), 8)
        self.assertEqual(json.loads(environment["SESSION_CONFIG"])["session_id"], "s1")
        self.assertEqual((order.timeout, sorted(order.ports)), (3600, [3000, 6080, 8080]))
        self.assertEqual(data["tunnel_urls"], {"3000": "https://sb-1-3000.modal.example"})
        self.assertEqual(data["created_at"], int(NOW))
        written = self.cloud.machines[0].written[endpoints.TUNNELS_FILE]
        self.assertEqual(written, "TUNNEL_SANDBOX_ID=sandbox-1\nTUNNEL_3000=https://sb-1-3000.modal.example\n")

    def test_a_prebuilt_image_a_terminal_and_notices_are_told(self) -> None:
        changes: dict[str, Any] = {
            "repo_image_id": "im-7",
            "repo_image_sha": "abc",
            "agent_slack_notify_enabled": True,
            "mcp_servers": [{"id": "m", "name": "docs"}],
            "sandbox_settings": {"tunnelPorts": [], "terminalEnabled": True},
        }
        self.data("api-create-sandbox", create(**changes))
        order = self.cloud.machines[0].order
        told = {name: order.environment.get(name) for name in ("FROM_REPO_IMAGE", "REPO_IMAGE_SHA", "TERMINAL_ENABLED")}
        self.assertEqual(told, {"FROM_REPO_IMAGE": "true", "REPO_IMAGE_SHA": "abc", "TERMINAL_ENABLED": "true"})
        self.assertEqual(order.environment["AGENT_SLACK_NOTIFY_ENABLED"], "true")
        self.assertEqual(json.loads(order.environment["SESSION_CONFIG"])["mcp_servers"], [{"id": "m", "name": "docs"}])
        self.assertEqual((order.image_id, "EXPECTED_TUNNEL_PORTS" in order.environment), ("im-7", False))
        self.data("api-create-sandbox", create(sandbox_id="sandbox-2"))
        environment = self.cloud.machines[1].order.environment
        self.assertEqual(environment["EXPECTED_TUNNEL_PORTS"], "3000")
        self.assertFalse({"TERMINAL_ENABLED", "AGENT_SLACK_NOTIFY_ENABLED", "FROM_REPO_IMAGE"} & environment.keys())

    def test_a_repeated_start_answers_the_one_that_runs_with_its_passwords(self) -> None:
        first = self.data("api-create-sandbox", create())
        again = self.data("api-create-sandbox", create())
        self.assertEqual((len(self.cloud.machines), again), (1, first))
        names = ("sandbox_id", "code_server_enabled", "vnc_enabled", "sandbox_settings")
        found = self.data("api-find-sandbox", {name: create()[name] for name in names})
        for name in ("code_server_url", "code_server_password", "vnc_url", "tunnel_urls"):
            self.assertEqual(found[name], first[name])
        self.data("api-stop-sandbox", {"sandbox_id": "sandbox-1"})
        self.assertIsNone(self.data("api-find-sandbox", {"sandbox_id": "sandbox-1"}))
        self.assertEqual(self.data("api-stop-sandbox", {"sandbox_id": "sandbox-1"}), {"terminated": True})

    def test_a_snapshot_is_restored_without_another_checkout(self) -> None:
        started = self.data("api-create-sandbox", create())
        kept = self.data(
            "api-snapshot-sandbox",
            {"sandbox_id": started["modal_object_id"], "session_id": "s1", "reason": "execution_complete"},
        )
        body: dict[str, Any] = create(sandbox_id="sandbox-2", snapshot_image_id=kept["image_id"], session_config={"session_id": "s1"})
        body = {name: value for name, value in body.items() if name in endpoints.FIELDS["api-restore-sandbox"]}
        self.data("api-restore-sandbox", body)
        order = self.cloud.machines[1].order
        self.assertEqual(order.image_id, kept["image_id"])
        self.assertEqual(order.environment["RESTORED_FROM_SNAPSHOT"], "true")
        self.assertEqual(self.call("api-snapshot-sandbox", {"sandbox_id": "sb-9", "session_id": "s"})[0], 404)
        self.cloud.images = set()
        status, answer = self.call("api-restore-sandbox", body | {"sandbox_id": "sandbox-3"})
        self.assertEqual((status, answer["success"]), (200, False))

    def test_bad_input_is_refused_and_starts_nothing(self) -> None:
        for changes in (
            {"unknown": 1},
            {"session_id": ""},
            {"sandbox_auth_token": None},
            {"control_plane_url": "https://evil.example"},
            {"control_plane_url": "https://cp.example@evil.example"},
            {"timeout_seconds": 0},
            {"timeout_seconds": 86_401},
            {"timeout_seconds": True},
            {"user_env_vars": {"A": 1}},
            {"user_env_vars": ["A"]},
            {"sandbox_settings": {"tunnelPorts": [8080]}},
            {"sandbox_settings": {"tunnelPorts": [3000, 3000]}},
            {"sandbox_settings": {"tunnelPorts": [7681]}},
            {"sandbox_settings": {"codeServerPort": 6080}},
            {"sandbox_settings": {"codeServerPort": "9000"}},
            {"sandbox_settings": "none"},
            {"sandbox_settings": {"tunnelPorts": ["3000"]}},
            {"sandbox_settings": {"tunnelPorts": list(range(1, 12))}},
        ):
            self.assertEqual(self.call("api-create-sandbox", create(**changes))[0], 400, changes)
        bodies: list[Any] = [None, [], "text", 1]
        for body in bodies:
            self.assertEqual(self.call("api-create-sandbox", body)[0], 400, body)
        self.assertEqual(self.cloud.machines, [])

    def test_services_are_at_the_ports_that_the_settings_name(self) -> None:
        settings = {"codeServerPort": 9000, "vncPort": 9001, "tunnelPorts": [8080]}
        data = self.data("api-create-sandbox", create(sandbox_settings=settings))
        order = self.cloud.machines[0].order
        told = {name: order.environment[name] for name in ("CODE_SERVER_PORT", "NOVNC_PORT", "EXPECTED_TUNNEL_PORTS")}
        self.assertEqual(told, {"CODE_SERVER_PORT": "9000", "NOVNC_PORT": "9001", "EXPECTED_TUNNEL_PORTS": "8080"})
        self.assertEqual(sorted(order.ports), [8080, 9000, 9001])
        self.assertEqual(data["code_server_url"], "https://sb-1-9000.modal.example")
        self.assertEqual(data["tunnel_urls"], {"8080": "https://sb-1-8080.modal.example"})
        off = self.data("api-create-sandbox", create(sandbox_id="sandbox-2", code_server_enabled=False, vnc_enabled=None))
        self.assertEqual((off["code_server_url"], off["vnc_password"]), (None, None))

    def test_addresses_that_come_late_are_waited_for_and_some_are_better_than_none(self) -> None:
        self.cloud.tunnels_after = 2
        self.assertTrue(self.data("api-create-sandbox", create())["code_server_url"])
        self.assertEqual(self.pauses, [0, 1, 2])
        self.cloud.tunnels_after = 9
        self.assertIsNone(self.data("api-create-sandbox", create(sandbox_id="sandbox-2"))["code_server_url"])

    def test_names_that_modal_would_not_take_become_such(self) -> None:
        self.assertEqual(endpoints.named("sandbox-acme-app-1"), "sandbox-acme-app-1")
        for name in ("a/b", "ü", "x" * 65, ""):
            self.assertRegex(endpoints.named(name), r"^oi-[0-9a-f]{40}$")

    def test_a_build_waits_for_its_token_and_knows_its_own_machine(self) -> None:
        build = {
            "scope_kind": "repo",
            "scope_id": "acme/app",
            "build_id": "imgb-1",
            "repositories": [{"repo_owner": "acme", "repo_name": "app", "branch": "main"}],
            "callback_url": "https://cp.example/image-builds/build-complete",
            "failure_callback_url": "https://cp.example/image-builds/build-failed",
            "clone_token": "one-shot",
            "build_execution_timeout_seconds": 1800,
            "provider_session_timeout_seconds": 2400,
        }
        session = self.data("api-create-build-sandbox", build)["provider_session_id"]
        order = self.cloud.machines[0].order
        self.assertFalse(order.model_keys)
        self.assertNotIn("SANDBOX_AUTH_TOKEN", order.environment)
        self.assertEqual(order.command[-1], "--await-modal-image-build-token-stdin-v1")
        ours = {"build_id": "imgb-1", "provider_session_id": session}
        self.assertEqual(self.call("api-start-build-sandbox", ours | {"callback_token": "no"})[0], 400)
        self.data("api-start-build-sandbox", ours | {"callback_token": TOKEN})
        self.assertEqual(self.cloud.machines[0].lines, [TOKEN])
        theirs = ours | {"build_id": "imgb-2"}
        self.assertEqual(self.call("api-snapshot-build-sandbox", theirs)[0], 404)
        self.assertEqual(self.data("api-snapshot-build-sandbox", ours)["image_id"], "im-sb-1")
        self.data("api-terminate-build-sandbox", theirs)
        self.assertTrue(self.cloud.machines[0].running)
        self.data("api-terminate-build-sandbox", ours)
        self.assertFalse(self.cloud.machines[0].running)


HAVE_MODAL = all(importlib.util.find_spec(name) for name in ("modal", "fastapi"))


@unittest.skipUnless(HAVE_MODAL, "the packages `modal` and `fastapi` are not installed")
class RealModal(unittest.TestCase):
    """The app with the real package, whose calls to Modal's servers alone are replaced: their arguments must fit."""

    def setUp(self) -> None:
        import modal

        import app

        self.app, self.modal = app, modal
        environment = {
            "MODAL_API_SECRET": SECRET,
            "ALLOWED_CONTROL_PLANE_HOSTS": " cp.example , other.example:8443",
            "OPEN_INSPECT_IMAGE": "registry.example/open-inspect:1",
        }
        self.sandbox = mock.create_autospec(modal.Sandbox, instance=True)
        self.sandbox.object_id = "sb-1"
        self.sandbox.tunnels.return_value = {8080: mock.Mock(url="https://c.modal.host"), 3000: mock.Mock(url="https://t")}
        self.sandbox.snapshot_filesystem.return_value = mock.Mock(object_id="im-1")
        self.asked: list[Any] = []
        signature = inspect.signature(modal.Sandbox.create)

        def create_sandbox(*args: Any, **named: Any) -> Any:
            self.asked.append(signature.bind(*args, **named).arguments)
            return self.sandbox

        patches: list[Any] = [
            mock.patch.dict(os.environ, environment),
            mock.patch.object(modal.Sandbox, "create", create_sandbox),
            mock.patch.object(modal.Sandbox, "from_id", lambda sandbox_id: self.sandbox),
        ]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)

    def call(self, endpoint: str, body: Any) -> tuple[int, Any]:
        import time

        function = getattr(self.app, endpoint.replace("-", "_"))
        answer = function.local(body=body, authorization=bearer(at=time.time()))
        return answer.status_code, json.loads(answer.body)

    def test_every_endpoint_is_a_function_of_the_app(self) -> None:
        named = {name.replace("_", "-") for name in dir(self.app) if name.startswith("api_")}
        self.assertEqual(named, {*endpoints.FIELDS, "api-health"})

    def test_the_image_is_made_of_calls_that_the_package_has(self) -> None:
        import pathlib

        import image

        built = image.sandbox_image(pathlib.Path(image.__file__))
        self.assertIsInstance(built, self.modal.Image)
        self.assertIn("SANDBOX_VERSION", image.ENVIRONMENT)
        for name, kind in (("im-1", "from_id"), ("registry.example/a:1", "from_registry")):
            with mock.patch.object(self.modal.Image, kind) as made:
                self.app.sandboxes_image(name)
            made.assert_called_once_with(name)

    def test_a_start_asks_modal_as_its_signature_has_it(self) -> None:
        status, answer = self.call("api-create-sandbox", create())
        self.assertEqual((status, answer["success"]), (200, True), answer)
        asked = self.asked[0]
        self.assertEqual(asked["args"], endpoints.RUNTIME)
        named = asked["kwargs"] if "kwargs" in asked else asked
        self.assertEqual(sorted(named["encrypted_ports"]), [3000, 6080, 8080])
        self.assertEqual((named["name"], named["timeout"], named["workdir"]), ("sandbox-1", 3600, "/workspace"))
        self.sandbox.filesystem.write_text.assert_called_once()
        self.assertEqual(answer["data"]["code_server_url"], "https://c.modal.host")

    def test_files_are_kept_for_good(self) -> None:
        status, answer = self.call("api-snapshot-sandbox", {"sandbox_id": "sb-1", "session_id": "s1"})
        self.assertEqual((status, answer["data"]["image_id"]), (200, "im-1"))
        self.sandbox.snapshot_filesystem.assert_called_once_with(timeout=300, ttl=None)

    def test_what_modal_says_is_not_passed_on_whole(self) -> None:
        self.sandbox.snapshot_filesystem.side_effect = self.modal.exception.TimeoutError("a secret in it")
        status, answer = self.call("api-snapshot-sandbox", {"sandbox_id": "sb-1", "session_id": "s1"})
        self.assertEqual((status, answer["success"]), (200, False))
        self.assertNotIn("secret", answer["error"])

    def test_a_name_that_runs_is_taken_up(self) -> None:
        taken = self.modal.exception.AlreadyExistsError("taken")
        with (
            mock.patch.object(self.modal.Sandbox, "create", mock.Mock(side_effect=taken)),
            mock.patch.object(self.modal.Sandbox, "from_name", lambda app_name, name: self.sandbox),
        ):
            status, answer = self.call("api-create-sandbox", create())
        self.assertEqual((status, answer["data"]["modal_object_id"]), (200, "sb-1"))


if __name__ == "__main__":
    unittest.main()
