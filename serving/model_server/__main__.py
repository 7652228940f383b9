"""`python -m serving.model_server`."""

import sys

from serving.model_server.process.main import main

if __name__ == "__main__":
    sys.exit(main())
