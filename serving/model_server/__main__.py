"""`python -m serving.model_server`."""

import sys

from serving.model_server.main import main

if __name__ == "__main__":
    sys.exit(main())
