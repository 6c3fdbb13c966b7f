"""What Zalo answers when it refuses. Its errors come with HTTP 200; the texts, spelling included, are Zalo's own."""

from __future__ import annotations

from typing import Any

ERROR_TEXTS: dict[int, str] = {
    -32: "Your application reached limit call api",
    -100: "attachment_id was expired",
    -108: "Phone number is invalid",
    -124: "Access token invalid",
    -133: "This message cannot be sent at night (10:00PM - 6:00AM)",
    -144: "Daily limit of messages is reached",
    -200: "Send message failed",
    -201: "{field} is invalid!",
    -204: "Offical Account is disable",
    -205: "Offical Account is not exist",
    -209: "Not supported this api",
    -210: "Parameter exceeds allowable limit",
    -211: "Out of quota",
    -212: "App has not registed this api",
    -213: "User has not followed OA",
    -214: "Article is being processed",
    -216: "Access token is invalid",
    -217: "User has blocked invitation from OA",
    -218: "Out of quota receive",
    -219: "App is removed or disabled",
    -220: "access_token is expired or removed",
    -221: "The OA needs to be verified to use this feature",
    -223: "Official Account has not authorized this API",
    -224: "The OA needs to upgrade OA Tier Package",
    -227: "User is banned or inactive > 45 days",
    -230: "User has not interacted with the OA in the past 7 days",
    -232: "User has not interacted with the OA, or the last interaction has expired",
    -233: "message type is invalid or not support",
    -234: "This message cannot be sent at night (10:00PM - 6:00AM)",
    -235: "API does not support this type of OA",
    -240: "MessageV2 API has been shut down, please switch to MessageV3",
    -242: "Invalid appsecret_proof",
    -244: "User has restricted this message type from your OA",
    -248: "Violates our platform standards",
    -249: "Template does not support send via UID",
    -320: "App must connect Zalo Cloud Account",
    -321: "Zalo Cloud Account is out of money",
}

OAUTH_ERRORS: dict[int, tuple[str, str]] = {
    -14002: ("Invalid app id", "The app does not exist, is not active, or the secret key is not its own."),
    -14003: ("Invalid redirect uri", "The redirect uri is not an http(s) address of the app."),
    -14010: ("Invalid authorization code", "The code is unknown, used, older than ten minutes or lacks its verifier."),
    -14014: ("Invalid refresh token", "The refresh token is unknown or was already used."),
    -14020: ("Expired refresh token", "The refresh token is older than three months."),
    -14029: ("App not approved", "The app was not approved for this Official Account."),
}


class ZaloRefusal(Exception):
    """An answer with a negative error code."""

    def __init__(self, code: int, *, field: str = "", text: str = "", status: int = 200) -> None:
        self.code = code
        self.status = status
        self.text = text or ERROR_TEXTS.get(code, "Unknown error").format(field=field)
        super().__init__(f"{code} {self.text}")

    def body(self) -> dict[str, Any]:
        """The JSON that Zalo sends; it never has a data member."""
        return {"error": self.code, "message": self.text}


class OAuthRefusal(Exception):
    """An OAuth answer with a negative error code."""

    status = 200

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"{code} {OAUTH_ERRORS[code][0]}")

    def body(self) -> dict[str, Any]:
        """The five-field shape of Zalo's OAuth host."""
        name, reason = OAUTH_ERRORS[self.code]
        return {
            "error": self.code,
            "error_name": name,
            "error_reason": reason,
            "ref_doc": "https://developers.zalo.me/docs/official-account/phu-luc/ma-loi",
            "error_description": reason,
        }
