"""Steps with requirements: versions of one package that cannot be in one environment."""

from __future__ import annotations

from penstock import Retry, Stdout, command, pipeline, step


@step
def version(package: str = "tiny") -> str:
    found: str = __import__(package).VERSION
    return found


old = version.options(requirements=["tiny==1.0"])
new = version.options(requirements=["tiny==2.0"])


@step
def together(first: str, second: str, third: str) -> str:
    return f"{first} {second} {third}"


@pipeline
def conflicting() -> str:
    said = command(
        name="said",
        shell="python -c 'import tiny; print(tiny.VERSION)'",
        requirements=["tiny==1.0"],
        outputs={"text": Stdout()},
    )
    return together(old(), new(), said["text"])


@pipeline(requirements=["gated"])
def gated() -> list[str]:
    each: list[str] = version.map(package=["gated"] * 10)
    return each


@pipeline(requirements=["gated", "nowhere"])
def impossible() -> str:
    return version.options(retry=Retry(max_attempts=2, initial_backoff="1ms"))()
