"""A WebRTC voice edge appliance: stateless relays, stateful transceivers, one public UDP port."""

__version__ = "0.1.0"
