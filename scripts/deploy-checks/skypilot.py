"""Reads deploy/skypilot with SkyPilot's own parser, and has it refuse slips of the pen.

From the root of the checkout, in an environment of .ci/tools/skypilot.txt; see `run` beside this file.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import sky
from sky.utils import yaml_utils

HERE = pathlib.Path("deploy/skypilot").resolve()
CARD = (HERE / "card.yaml").read_text()
BUCKET = (HERE / "bucket.yaml").read_text()

SLIPS = [
    ("resources:", "resource:"),
    ("  accelerators:", "  acelerators:"),
    ("    idle_minutes:", "    idle_minuts:"),
    ("    down: true", "    down: perhaps"),
    ("disk_size: 64", "disk_size: [64]"),
    ("workdir:", "work_dir:"),
    ("envs:", "env:"),
    ("run: |", "runs: |"),
]


def read(text, **environment):
    path = pathlib.Path("task.yaml")
    path.write_text(text)
    if not environment:
        return sky.Task.from_yaml(str(path))
    return sky.Task.from_yaml_config(yaml_utils.read_yaml(str(path)), env_overrides=list(environment.items()))


def check_shell(name, text):
    """shellcheck of what would run on the rented machine."""
    if not text:
        sys.exit(f"{name}: nothing to run")
    done = subprocess.run(["shellcheck", "--shell", "bash", "-"], input=text, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: shellcheck refuses it")


def main():
    # The release's folder must be there when a task is read.
    pathlib.Path("dist").mkdir()
    task = read(CARD)
    (resources,) = task.resources
    found = (resources.accelerators, resources.autostop_config.down, resources.autostop_config.idle_minutes)
    if found != ({"L4": 1}, True, 5):
        sys.exit(f"card.yaml asks for {found}")
    check_shell("setup", task.setup)
    check_shell("run", task.run)
    print(f"card.yaml: {task} on {resources}")

    task = read(CARD + BUCKET, WARPMARK_BUCKET="gpu-results")
    mounts = {place: storage.name for place, storage in task.storage_mounts.items()}
    if mounts != {"/bucket": "gpu-results"}:
        sys.exit(f"bucket.yaml mounts {mounts}")

    for right, wrong in SLIPS:
        if CARD.count(right) != 1:
            sys.exit(f'card.yaml has "{right}" {CARD.count(right)} times')
        try:
            task = read(CARD.replace(right, wrong))
        except Exception as error:  # each slip has an error of its own kind
            first = str(error).strip().splitlines()[0]
            print(f"refused {wrong.strip()}: {first}")
        else:
            sys.exit(f'a task with "{wrong.strip()}" passes: {task}')


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
