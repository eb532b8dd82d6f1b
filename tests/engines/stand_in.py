"""Podman's command line, as far as agents use it, with plain processes in place of containers.

It is for machines without an engine. What it does not do: nothing is shut in, no image is looked into (one has no
Python on its PATH), and of limits it knows that of memory alone, of the first process. What it does as Podman: a
container outlives the client that started it, gets the variables that it was created with and no others, and is killed
with its processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["STAND_IN_FOLDER"])
CONTAINERS, PULLED = FOLDER / "containers", FOLDER / "pulled"
IMAGES = {"localhost/penstock-test:1": True, "localhost/penstock-bare:1": False}
"""By name: whether it has Python."""
PULLABLE = "localhost/penstock-pulled:1"
VALUES = {
    "--name", "--label", "--workdir", "--mount", "--env", "--env-file", "--entrypoint", "--log-driver", "--user",
    "--stop-timeout", "--security-opt", "--memory", "--memory-swap", "--cpus", "--pull", "--format", "--filter",
    "--device", "--userns",
}  # fmt: skip
FLAGS = {"--interactive", "--attach", "--init", "--all", "--quiet", "--no-trunc", "--force", "--volumes"}
STOPS = (signal.SIGTERM, signal.SIGINT)
RUNS = b"+"
NEVER = "0001-01-01T00:00:00Z"


def fail(message: str, code: int = 125) -> None:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(code)


def parse(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options, by name, and what follows them. An option that it does not know is an error."""
    options: dict[str, list[str]] = {}
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).partition("=")
        if name in FLAGS:
            options[name] = []
        elif name in VALUES:
            options.setdefault(name, []).append(value if equals else words.pop(0))
        else:
            fail(f"unknown flag: {name}")
    return options, words


def main() -> None:
    command, *words = sys.argv[1:]
    if command == "image":
        command = f"image {words.pop(0)}"
    options, rest = parse(words)
    with (FOLDER / "calls").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    known = {
        "version": version, "info": info, "image inspect": inspect_image, "pull": pull, "create": create,
        "start": start, "inspect": inspect, "ps": ps, "rm": remove,
    }  # fmt: skip
    known[command](options, rest)


def version(options: dict[str, list[str]], rest: list[str]) -> None:
    print("Version: 0.0.1")


def info(options: dict[str, list[str]], rest: list[str]) -> None:
    host = {"cgroupControllers": ["memory", "cpu"], "security": {"rootless": False}}
    print(json.dumps({"host": host, "version": {"Version": "0.0.1"}}))


def has_image(name: str) -> bool:
    return name in IMAGES or (name == PULLABLE and PULLED.exists())


def inspect_image(options: dict[str, list[str]], rest: list[str]) -> None:
    if not has_image(rest[0]):
        fail(f"inspecting object: {rest[0]}: image not known")
    print("0" * 64)


def pull(options: dict[str, list[str]], rest: list[str]) -> None:
    if rest[0] != PULLABLE:
        fail(f"initializing source docker://{rest[0]}: dial tcp 127.0.0.1:1: connect: connection refused")
    PULLED.touch()


def create(options: dict[str, list[str]], rest: list[str]) -> None:
    image, *arguments = rest
    if not has_image(image):
        fail(f"{image}: image not known")
    env = {}
    for name in options.get("--env", []):
        env[name] = os.environ[name]
    for path in options.get("--env-file", []):
        assert Path(path).stat().st_mode & 0o777 == 0o600
        env |= dict(line.split("=", 1) for line in Path(path).read_text().splitlines())
    for mount in options.get("--mount", []):
        source = dict(part.partition("=")[::2] for part in mount.split(","))["source"]
        if not Path(source).exists():
            fail(f"statfs {source}: no such file or directory")
    CONTAINERS.mkdir(exist_ok=True)
    (name,) = options["--name"]
    save(name, {
        "Status": "created", "ExitCode": 0, "OOMKilled": False, "StartedAt": NEVER, "pid": 0, "image": image,
        "argv": [*options["--entrypoint"], *arguments], "env": env, "workdir": options["--workdir"][0],
        "labels": options.get("--label", []), "options": options,
    })  # fmt: skip
    print("1" * 64)


def start(options: dict[str, list[str]], rest: list[str]) -> None:
    """The one that waits for the container is nobody's child: it outlives this client. A signal that comes before the
    container's process is known waits for it."""
    (name,) = rest
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    said = load(name)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(reader)
        if os.fork() == 0:
            supervise(name, said, writer, interactive="--interactive" in options)
        os._exit(0)
    os.close(writer)
    os.wait()
    ended = os.read(reader, 1)
    if ended == RUNS:
        for number in STOPS:
            signal.signal(number, lambda number, _: pass_on(name, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        ended = b""
    ended += os.read(reader, 16)
    sys.exit(int(ended or b"125"))


def pass_on(name: str, number: int) -> None:
    if pid := load(name)["pid"]:
        os.killpg(pid, number)


def supervise(name: str, said: dict[str, Any], writer: int, *, interactive: bool) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    os.set_inheritable(writer, False)
    has_python = IMAGES.get(said["image"], True)
    path = (
        f"{Path(sys.executable).parent}:/usr/bin:/bin"
        if has_python
        else "/bin"
        if not Path("/bin").is_symlink()
        else str(FOLDER)
    )
    env = {"PATH": path, "HOME": "/", **said["env"]}
    argv = said["argv"]
    if argv[0] == "/bin/sh" or "/" in argv[0]:
        program = argv[0]
    else:
        program = next((f"{each}/{argv[0]}" for each in path.split(":") if Path(each, argv[0]).exists()), argv[0])
    try:
        process = subprocess.Popen(
            argv, executable=program, env=env, cwd=said["workdir"], start_new_session=True,
            stdin=None if interactive else subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        print(f"Error: stand-in: executable file `{argv[0]}` not found in $PATH", file=sys.stderr, flush=True)
        os.write(writer, b"127")
        os._exit(0)
    save(name, {**said, "Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "pid": process.pid})
    os.write(writer, RUNS)
    code, killed = wait(process, int(next(iter(said["options"].get("--memory", [])), 0)))
    kill_group(process.pid)
    code = 128 - code if code < 0 else code
    if (CONTAINERS / name).exists():
        save(name, {**load(name), "Status": "exited", "ExitCode": code, "OOMKilled": killed, "pid": 0})
    os.write(writer, str(code).encode())
    os._exit(0)


def wait(process: subprocess.Popen[bytes], memory: int) -> tuple[int, bool]:
    """As the kernel of a real one would, it kills the process that holds more than it may."""
    while True:
        try:
            return process.wait(0.02 if memory else None), False
        except subprocess.TimeoutExpired:
            if held(process.pid) > memory:
                process.kill()
                return process.wait(), True


def held(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def inspect(options: dict[str, list[str]], rest: list[str]) -> None:
    said = load(rest[0])
    print(json.dumps({name: said[name] for name in ("Status", "ExitCode", "OOMKilled", "StartedAt")}))


def ps(options: dict[str, list[str]], rest: list[str]) -> None:
    wanted = [each.removeprefix("label=") for each in options.get("--filter", [])]
    for path in sorted(CONTAINERS.glob("*")) if CONTAINERS.exists() else []:
        if set(wanted) <= set(load(path.name)["labels"]):
            print(path.name)


def remove(options: dict[str, list[str]], rest: list[str]) -> None:
    for name in rest:
        if (CONTAINERS / name).exists():
            pid = load(name)["pid"]
            if pid:
                kill_group(pid)
            (CONTAINERS / name).unlink(missing_ok=True)


def save(name: str, said: dict[str, Any]) -> None:
    fresh = FOLDER / f".{name}.{os.getpid()}"
    fresh.write_text(json.dumps(said))
    fresh.rename(CONTAINERS / name)


def load(name: str) -> dict[str, Any]:
    if not (CONTAINERS / name).exists():
        fail(f'no container with name or ID "{name}" found: no such container')
    said: dict[str, Any] = json.loads((CONTAINERS / name).read_text())
    return said


main()
