"""What the forkserver imports before it forks its first worker; nothing else may import this.

The workers' modules, so that a worker starts in milliseconds and shares their memory. And no ending
by SIGTERM: sent to the whole process group it would take the workers along before the supervisor
has drained them. The forkserver leaves when the supervisor does.
"""

import signal

import edge.relay
import edge.transceiver.worker  # noqa: F401 - see above

signal.signal(signal.SIGTERM, signal.SIG_IGN)
