"""Prints what an image of Penstock has to have installed, a requirement per line, out of pyproject.toml.

python dependencies.py EXTRA [PACKAGE...]
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    extra, *packages = sys.argv[1:]
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"][extra], *packages]:
        print(requirement)


if __name__ == "__main__":
    main()
