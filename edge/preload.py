"""What the forkserver imports before it forks its first worker; nothing else may import this.

The workers' modules, so that a worker starts in milliseconds and shares their memory. And no ending
by SIGTERM or SIGHUP: sent to the whole process group they would take the workers along before the
supervisor has drained them. The forkserver leaves when the supervisor does.
"""

import signal

import edge.relay
import edge.transceiver.worker  # noqa: F401 - see above

for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, signal.SIG_IGN)
