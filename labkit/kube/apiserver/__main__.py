"""`python -m labkit.kube.apiserver`: run the embedded API server in the foreground."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from labkit.errors import LabkitError
from labkit.kube.apiserver import ServerConfig, serve


def main() -> int:
    """Read the arguments and serve; 0 after a clean stop."""
    parser = argparse.ArgumentParser(prog="python -m labkit.kube.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="loopback port to listen on; 0 picks a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory that keeps the objects")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="file to write when the server is ready")
    parser.add_argument("--journal", type=Path, help="file that notes every WasmPlugin created or changed")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        serve(ServerConfig(arguments.port, arguments.data, arguments.kubeconfig, arguments.journal))
    except LabkitError as error:
        logging.error("%s%s", error, f" ({error.hint})" if error.hint else "")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
