"""`python -m serving.model_server`: the command line, checked before anything slow is imported."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from serving.model_server.core import memory
from serving.model_server.process import flags, logs, ports


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m serving.model_server") -> int:
    """Runs the server until SIGTERM or SIGINT.

    Args:
      arguments: the command line without the program name; None reads `sys.argv`.
      prog: the program's name in its help.

    Returns:
      The exit status: 0 after a drained shutdown, 1 when a port cannot be had, or a file of
      the command line is wrong or cannot be written.
    """
    config = flags.parse(arguments, prog)
    # Before TensorFlow is imported (seconds): its start-up chatter would bury our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    logs.configure(config.log_format)
    memory.give_back()
    for line in config.ignored:
        logging.getLogger(__name__).info(line)
    stop = threading.Event()
    # Before the slow imports.
    if not ports.is_ours(config.host):
        return _refuse(f"--host: {config.host} is no name or address of this machine")
    if not ports.is_free(config.port):
        return _refuse(ports.PORT_ERROR.format("port", config.port))
    if config.rest_api_port > 0 and not ports.is_free(config.rest_api_port):
        return _refuse(ports.PORT_ERROR.format("rest_api_port", config.rest_api_port))
    if not ports.is_free(config.profiler_port):
        return _refuse(ports.PORT_ERROR.format("profiler_port", config.profiler_port))
    for flag in ("port_file", "rest_api_port_file"):
        try:
            if getattr(config, flag):
                ports.prepare(getattr(config, flag))
        except ports.NotWritable as error:
            return _refuse(f"--{flag}: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from serving.model_server.process import server  # TensorFlow: takes seconds

    try:
        server.serve(config, stop)
    except server.Refused as error:
        return _refuse(str(error))


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 1
