"""The image of sandboxes at Modal: `python image.py <sandbox-bridge>` builds it and prints its id, which is
OPEN_INSPECT_IMAGE when the app is deployed.

Written by `cargo xtask images` from contents.toml. Not to be edited.
"""

from __future__ import annotations

import pathlib
import sys

import modal

BASE = "python:3.12-slim-bookworm"
ENVIRONMENT = {
    "AGENT_BROWSER_EXECUTABLE_PATH": "/usr/bin/chromium",
    "LANG": "C.UTF-8",
    "NODE_PATH": "/usr/lib/node_modules",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONUNBUFFERED": "1",
    "SANDBOX_VERSION": "v61-sandbox-sbin-path",
}
STEPS = [
    # what repositories are fetched and built with
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends build-essential ca-certificates curl gh git git-lfs gnupg openssh-client pkg-config unzip xz-utils zip zstd && rm -rf /var/lib/apt/lists/*",
    # Node
    "curl -fsSL https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key | gpg --dearmor -o /usr/share/keyrings/nodesource.gpg && echo \"deb [signed-by=/usr/share/keyrings/nodesource.gpg] https://deb.nodesource.com/node_22.x nodistro main\" >/etc/apt/sources.list.d/nodesource.list && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nodejs=22.* && rm -rf /var/lib/apt/lists/*",
    # what agents work with
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ffmpeg file jq less ripgrep tmux tree && rm -rf /var/lib/apt/lists/*",
    # what a process tree and its users need
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends adduser passwd procps sudo sysvinit-utils tini && rm -rf /var/lib/apt/lists/*",
    # the browser, the libraries that Chromium builds of others ask for, and letters to show
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-liberation fonts-noto-color-emoji libasound2 libatk-bridge2.0-0 libatk1.0-0 libatspi2.0-0 libcairo2 libcups2 libdrm2 libgbm1 libnspr4 libnss3 libpango-1.0-0 libxcomposite1 libxdamage1 libxfixes3 libxkbcommon0 libxrandr2 && rm -rf /var/lib/apt/lists/*",
    # what code-server compiles parts of itself with
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libkrb5-dev libsecret-1-dev libx11-dev libxkbfile-dev && rm -rf /var/lib/apt/lists/*",
    # the desktop
    "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends fluxbox novnc websockify x11vnc xterm xvfb && rm -rf /var/lib/apt/lists/*",
    # what is npm's
    "npm install --global --unsafe-perm --no-audit --no-fund --allow-scripts=opencode-ai,agent-browser,code-server,bun opencode-ai@1.18.33 @opencode-ai/plugin@1.18.33 agent-browser@0.21.2 code-server@4.110.0 bun@1.4.5 pnpm@10.33.0 zod@4.1.13 && npm cache clean --force",
    # what is PyPI's
    "pip install --no-cache-dir uv==0.9.18",
    # where repositories are checked out
    "mkdir -p /workspace",
]


def sandbox_image(bridge: pathlib.Path) -> modal.Image:
    """With this Linux program as `sandbox-bridge`."""
    image = modal.Image.from_registry(BASE).env(ENVIRONMENT)
    for step in STEPS:
        image = image.run_commands(step)
    image = image.add_local_file(bridge, "/usr/local/bin/sandbox-bridge", copy=True)
    return image.run_commands("chmod 0755 /usr/local/bin/sandbox-bridge").workdir("/workspace")


if __name__ == "__main__":
    app = modal.App.lookup("open-inspect", create_if_missing=True)
    with modal.enable_output():
        built = sandbox_image(pathlib.Path(sys.argv[1])).build(app)
    print(built.object_id)
