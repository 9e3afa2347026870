"""What the forkserver imports before it forks its first worker; nothing else may import this.

The workers' modules, so that a worker starts in milliseconds and shares their memory. And what has
the forkserver live on: as the parent of all workers it may not end before they do. It ignores
SIGTERM and SIGHUP, which sent to the whole process group would take the workers along before the
supervisor has drained them, and requests that fail. It leaves when the supervisor does.
"""

import signal

import edge.relay
import edge.transceiver.worker  # noqa: F401 - see above
from edge.supervision.forking import tolerate_failures

for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, signal.SIG_IGN)
tolerate_failures()
