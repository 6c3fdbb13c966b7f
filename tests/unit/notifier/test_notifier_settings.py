"""Settings that would make the notifier useless or unsafe are refused at start-up, without showing a secret."""

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr, ValidationError

from services.notifier.settings import NotifierSettings

KEY = Fernet.generate_key().decode()


def test_a_lease_that_does_not_outlast_a_call_is_refused() -> None:
    with pytest.raises(ValidationError, match="send_lease_seconds must exceed"):
        NotifierSettings(token_encryption_key=SecretStr(KEY), send_lease_seconds=12, zalo_timeout_seconds=10)


@pytest.mark.parametrize(
    "key", ["", " , ", "short-secret", f"{KEY},short-secret"], ids=["empty", "comma", "short", "second one short"]
)
def test_a_wrong_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        NotifierSettings(token_encryption_key=SecretStr(key))

    assert "short-secret" not in str(caught.value)


def test_several_keys_are_taken() -> None:
    settings = NotifierSettings(token_encryption_key=SecretStr(f"{KEY},{Fernet.generate_key().decode()}"))

    assert settings.send_lease_seconds > settings.zalo_timeout_seconds
