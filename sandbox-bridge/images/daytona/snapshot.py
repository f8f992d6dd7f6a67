"""The snapshot of sandboxes at Daytona: `python snapshot.py <folder> <name>` makes it, where the folder has `sandbox-bridge`
and the name is DAYTONA_BASE_SNAPSHOT.

Written by `cargo xtask images` from contents.toml. Not to be edited.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

from daytona import CreateSnapshotParams, Daytona, Image, Resources

DOCKERFILE = pathlib.Path(__file__).parent.parent / "Dockerfile"


def snapshot(folder: pathlib.Path, name: str) -> CreateSnapshotParams:
    """What is asked for. The Dockerfile is read beside what it copies."""
    dockerfile = shutil.copy(DOCKERFILE, folder / "Dockerfile")
    return CreateSnapshotParams(
        name=name,
        image=Image.from_dockerfile(dockerfile),
        resources=Resources(cpu=2, memory=4, disk=10),
        entrypoint=["sandbox-bridge", "supervise", "--config-env"],
    )


if __name__ == "__main__":
    Daytona().snapshot.create(snapshot(pathlib.Path(sys.argv[1]), sys.argv[2]), on_logs=print)
