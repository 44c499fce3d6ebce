"""The edge, and every program.

grpc's core writes its INFO lines (GOAWAY, fork, TLS) to stderr, between ours. It reads the level once, when it is first
imported: hence here, before any module below.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
