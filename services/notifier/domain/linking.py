"""Linking a page by hand: the consent address with its PKCE challenge, and what comes back from it.

Source: OAuth v4 of Official Accounts: a verifier of 43 letters and digits, its SHA-256 in base64url without padding as
the challenge; the code works once and for ten minutes.
"""

import base64
import hashlib
import secrets
import string
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

PERMISSION_PATH = "/v4/oa/permission"
VERIFIER_CHARACTERS = 43
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """One attempt to link a page. The verifier stays here; only its challenge travels.

    Attributes:
        state: comes back with the code, so that nobody else's code is taken.
        redirect_uri: where Zalo sends the administrator's browser; must be the one saved in Zalo's console.
    """

    app_id: str
    oa_id: str
    redirect_uri: str
    verifier: str
    state: str

    @classmethod
    def new(cls, *, app_id: str, oa_id: str, redirect_uri: str) -> "LinkRequest":
        """A request with fresh secrets."""
        verifier = "".join(secrets.choice(_ALPHABET) for _ in range(VERIFIER_CHARACTERS))
        return cls(app_id, oa_id, redirect_uri, verifier, secrets.token_urlsafe(24))

    @property
    def challenge(self) -> str:
        """What Zalo keeps to recognise the verifier by."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def consent_url(self, oauth_url: str) -> str:
        """The address that an administrator of the page opens."""
        query = {
            "app_id": self.app_id,
            "redirect_uri": self.redirect_uri,
            "code_challenge": self.challenge,
            "state": self.state,
        }
        return f"{oauth_url}{PERMISSION_PATH}?{urlencode(query)}"


class WrongAnswer(ValueError):
    """What came back does not belong to the request; `code` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def code_of(answer: str, request: LinkRequest) -> str:
    """The code in what came back: the whole address that the browser was sent to, its query, or the bare code.

    Raises:
        WrongAnswer: there is no code, or it is for another request or another page.
    """
    answer = answer.strip()
    query = urlsplit(answer).query or (answer if "code=" in answer else "")
    if not query:
        if not answer or any(sign.isspace() or sign in "/?&" for sign in answer):
            raise WrongAnswer("link.no_code")
        return answer
    given = {name: values[0] for name, values in parse_qs(query).items()}
    if "code" not in given:
        raise WrongAnswer("link.no_code")
    if not secrets.compare_digest(given.get("state", "").encode(), request.state.encode()):
        raise WrongAnswer("link.other_request")
    if given.get("oa_id", request.oa_id) != request.oa_id:
        raise WrongAnswer("link.other_page")
    return given["code"]
