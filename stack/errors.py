"""What can go wrong while the hub is brought up, and what the person at the prompt can do about it."""


class StackError(Exception):
    """A failure with a stable code, what happened, and what to do next.

    Args:
        code: stable, in snake case; printed in brackets so that it can be searched for.
        message: what happened, in one or two sentences.
        advice: what to do, as complete sentences; shown on its own line.
        log_tail: the last lines of the log that explains it, shown as they are.
    """

    def __init__(self, code: str, message: str, advice: str, *, log_tail: str = "") -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message
        self.advice = advice
        self.log_tail = log_tail
        if log_tail:
            self.add_note(log_tail)  # a traceback in a test's report would not have it
