"""The operator's configuration: TOML text in, one frozen ``Config`` or one ``ConfigError`` out."""

from edge.config.decode import decode_config, decode_document
from edge.config.difference import apply_live, waiting_keys
from edge.config.keypath import KeyPath
from edge.config.schema import (
    BackendConfig,
    Config,
    InlineRoutingKey,
    KeysConfig,
    LogConfig,
    Problem,
    RelayConfig,
    SignalConfig,
    SupervisorConfig,
    Table,
    TransceiverConfig,
    routing_key_problems,
)
from edge.config.values import (
    AbsolutePath,
    IpAddress,
    ListenAddress,
    PasswordSecret,
    PublicAddress,
    RoutingSecret,
    UrlPath,
)

__all__ = [
    "AbsolutePath",
    "BackendConfig",
    "Config",
    "InlineRoutingKey",
    "IpAddress",
    "KeyPath",
    "KeysConfig",
    "ListenAddress",
    "LogConfig",
    "PasswordSecret",
    "Problem",
    "PublicAddress",
    "RelayConfig",
    "RoutingSecret",
    "SignalConfig",
    "SupervisorConfig",
    "Table",
    "TransceiverConfig",
    "UrlPath",
    "apply_live",
    "decode_config",
    "decode_document",
    "routing_key_problems",
    "waiting_keys",
]
