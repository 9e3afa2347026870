"""The operator's configuration: TOML text in, one frozen ``Config`` or one ``ConfigError`` out."""

from edge.config.decode import decode_config, decode_document
from edge.config.difference import apply_live, waiting_keys
from edge.config.keypath import KeyPath
from edge.config.routes import (
    EchoRoute,
    LinkedRoute,
    LoopbackRoute,
    RealtimeRoute,
    Route,
    TwilioRoute,
    WebSocketRoute,
)
from edge.config.schema import (
    Config,
    InlineRoutingKey,
    KeysConfig,
    LogConfig,
    MediaConfig,
    RelayConfig,
    SignalConfig,
    SupervisorConfig,
    TransceiverConfig,
    routing_key_problems,
)
from edge.config.table import Problem, Table
from edge.config.values import (
    AbsolutePath,
    BackendUrl,
    IpAddress,
    ListenAddress,
    PasswordSecret,
    PublicAddress,
    RouteName,
    RoutingSecret,
    Secret,
    UrlPath,
)

__all__ = [
    "AbsolutePath",
    "BackendUrl",
    "Config",
    "EchoRoute",
    "InlineRoutingKey",
    "IpAddress",
    "KeyPath",
    "KeysConfig",
    "LinkedRoute",
    "ListenAddress",
    "LogConfig",
    "LoopbackRoute",
    "MediaConfig",
    "PasswordSecret",
    "Problem",
    "PublicAddress",
    "RealtimeRoute",
    "RelayConfig",
    "Route",
    "RouteName",
    "RoutingSecret",
    "Secret",
    "SignalConfig",
    "SupervisorConfig",
    "Table",
    "TransceiverConfig",
    "TwilioRoute",
    "UrlPath",
    "WebSocketRoute",
    "apply_live",
    "decode_config",
    "decode_document",
    "routing_key_problems",
    "waiting_keys",
]
