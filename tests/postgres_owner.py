"""A process with an embedded PostgreSQL: `postgres_owner.py DATA_DIR [fork]`, standard library only.

Prints one JSON line when the server runs (or `{"refused": …}`) and stops it when standard input ends. With `fork`, a
forked child comes first that calls `stop` itself, prints a line of its own and lives as long as its parent would.
"""

import json
import os
import sys
from pathlib import Path

from kinfolk.kit.embedded_postgres import CannotStart, EmbeddedPostgres


def main() -> None:
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    try:
        url = postgres.start()
    except CannotStart as refusal:
        print(json.dumps({"refused": str(refusal)}), flush=True)
        return
    if "fork" in sys.argv and os.fork() == 0:
        was_ours = postgres.is_ours
        postgres.stop()
        print(json.dumps({"forked": os.getpid(), "is_ours": was_ours}), flush=True)
        sys.stdin.read()
        os._exit(0)
    facts = {"url": url, "pid": postgres.pid, "is_ours": postgres.is_ours, "uid": os.geteuid()}
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
    postgres.stop()


if __name__ == "__main__":
    main()
