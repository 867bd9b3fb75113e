"""`python -m tests.parts install [PART…]` installs real components, `list` shows which are there."""

from __future__ import annotations

import argparse
import sys

from tests.parts.install import install, is_installed
from tests.parts.versions import PARTS, DebianPackages


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="install what is missing (all parts, or those named)")
    installing.add_argument("parts", nargs="*", metavar="PART", help=f"among: {' '.join(PARTS)}")
    installing.add_argument("--except", dest="without", action="append", default=[], metavar="PART")
    commands.add_parser("list", help="show each part, its version and whether it is installed")
    arguments = parser.parse_args()
    if arguments.command == "list":
        for name, part in PARTS.items():
            version = "Debian's" if isinstance(part, DebianPackages) else part.version
            print(f"{name:16} {version:40} {'installed' if is_installed(name) else 'missing'}")
        return 0
    unknown = [name for name in (*arguments.parts, *arguments.without) if name not in PARTS]
    if unknown:
        parser.error(f"unknown part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    wanted = [name for name in (arguments.parts or PARTS) if name not in arguments.without]
    return 1 if install(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
