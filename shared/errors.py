"""Errors of the plumbing. Every error says whether trying again can help and which code is stored."""

from typing import ClassVar


class HubError(Exception):
    """Base of all errors that this product raises on purpose.

    Attributes:
        code: stable; stored, logged and counted.
        retryable: whether the same call may work later, with nothing changed.
    """

    code: ClassVar[str] = "hub.error"
    retryable: ClassVar[bool] = False


class StoreUnavailable(HubError):
    """MongoDB cannot be reached; a write may or may not be applied. Repeat it: all writes are repeatable."""

    code = "store.unavailable"
    retryable = True


class BrokerUnavailable(HubError):
    """Kafka did not acknowledge in time; the event may still arrive. Publish it again under the same id."""

    code = "broker.unavailable"
    retryable = True


class EventTooLarge(HubError):
    """The event is larger than the broker takes; it will never fit."""

    code = "event.too_large"


class NotReady(HubError):
    """Topics or indexes are missing: the service refuses to start; `hub init` creates them."""

    code = "service.not_initialised"


class ConfigurationError(HubError):
    """A setting or a data file is wrong; the text says which and what to do."""

    code = "configuration.invalid"
