"""What can go wrong in the router beyond the plumbing, and whether trying again can help."""

from shared.errors import HubError


class CaseMoved(HubError):
    """Another replica wrote the same citizen's case meanwhile; the batch is read and decided afresh."""

    code = "case.moved"
    retryable = True


class CaseUnknown(HubError):
    """An officer's action names a case that does not exist."""

    code = "case.unknown"


class MatterIsOpen(HubError):
    """A closed case cannot be reopened: the citizen has an open case of the same matter. Work there."""

    code = "case.matter_is_open"
