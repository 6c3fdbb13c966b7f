"""What can go wrong at the prompt: a stable code, what happened, what to do, and an exit code for scripts."""

from enum import IntEnum

from shared.errors import BrokerUnavailable, ConfigurationError, HubError, StoreUnavailable


class ExitCode(IntEnum):
    """Exit codes of `hub`; 2 is a wrong use of the command line itself."""

    OK = 0
    NOT_WELL = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFIGURATION = 5
    REFUSED = 6
    NO_ANSWER = 7
    UNEXPECTED = 70


class CommandError(Exception):
    """A command could not do its work.

    Args:
        code: stable, in snake case; printed in brackets and searchable.
        message: what happened.
        advice: what to do next, as complete sentences.
        exit_code: for scripts.
    """

    def __init__(self, code: str, message: str, advice: str, *, exit_code: ExitCode = ExitCode.NOT_WELL) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message
        self.advice = advice
        self.exit_code = exit_code


def as_command_error(error: HubError) -> CommandError:
    """Tell an error of the plumbing to a person."""
    if isinstance(error, StoreUnavailable):
        return CommandError(
            "mongo_unreachable",
            f"MongoDB does not answer ({error}).",
            "Start the hub with `make up`, or set MONGO_URI to a server that runs.",
            exit_code=ExitCode.UNREACHABLE,
        )
    if isinstance(error, BrokerUnavailable):
        return CommandError(
            "kafka_unreachable",
            f"Kafka did not acknowledge ({error}).",
            "Start the hub with `make up`, or set KAFKA_BOOTSTRAP_SERVERS to a cluster that runs. "
            "What was being published may still arrive; repeating the command is safe.",
            exit_code=ExitCode.UNREACHABLE,
        )
    if isinstance(error, ConfigurationError):
        return CommandError(
            "configuration_invalid",
            str(error),
            "`hub settings` lists every setting with its meaning.",
            exit_code=ExitCode.CONFIGURATION,
        )
    return CommandError(error.code, str(error), "See docs/runbooks/.", exit_code=ExitCode.NOT_WELL)
