"""``python -m jaxssl.cli`` is ``jaxssl``."""

import sys

from jaxssl.cli import main

if __name__ == "__main__":
    sys.exit(main())
