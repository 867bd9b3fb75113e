"""Is the Slipway of this container ready? Exit code 0 if it is, 1 with a reason if not.

Asks the internal address where the settings name one over TCP (every service has it), else the public one. Only the
standard library is imported: a check should cost less than what it checks.
"""

import http.client
import os
import ssl
import sys

_TIMEOUT_S = 4


def main() -> int:
    internal = os.environ.get("SLIPWAY_INTERNAL_LISTEN", "")
    over_tcp = internal != "" and not internal.startswith("unix:")
    port = int((internal if over_tcp else os.environ["SLIPWAY_LISTEN"]).rpartition(":")[2])
    if not over_tcp and os.environ.get("SLIPWAY_TLS_CERTIFICATE"):
        # The certificate is for the public name, and this is the loopback address.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as exc:
        print(f"port {port}: {exc}")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
