"""The gateway's part of the command line: a client of its management API, and accounts with the database at hand.

This list is all that `slipway --help` reads; each module is imported when its command is called.
"""

from __future__ import annotations

from slipway_common.launcher.commands import ON_THIS_MACHINE, Command

_HERE = "slipway_gateway.commands"

COMMANDS: tuple[Command, ...] = (
    Command("accounts", "Set passwords with the database at hand, without a login.", f"{_HERE}.accounts:build",
            panel=ON_THIS_MACHINE, database=True),
    Command("login", "Log in to a registry, so that the commands below can manage it.", f"{_HERE}.login:login",
            group=False),
    Command("logout", "Log out: the token is revoked there, and forgotten here.", f"{_HERE}.login:logout", group=False),
    Command("whoami", "Say who you are, and where.", f"{_HERE}.login:whoami", group=False),
    Command("repo", "Repositories: make, describe, rename, publish, delete them.", f"{_HERE}.repo:build"),
    Command("namespace", "Namespaces, and the rules for what is in them.", f"{_HERE}.namespace:build"),
    Command("grant", "Who may do what: roles on repositories, namespaces and patterns.", f"{_HERE}.grant:build"),
    Command("user", "Users of the registry, for administrators.", f"{_HERE}.user:build"),
    Command("team", "Teams: users who are given rights together.", f"{_HERE}.team:build"),
    Command("robot", "Robots: logins for programs, that belong to a namespace.", f"{_HERE}.robot:build"),
    Command("token", "Access tokens: your logins for programs, without your password.", f"{_HERE}.token:build"),
    Command("explain", "Explain why somebody may or may not do something.", f"{_HERE}.explain:explain", group=False),
    Command("audit", "Show who changed what, and what was refused to whom.", f"{_HERE}.audit:audit", group=False),
)  # fmt: skip
