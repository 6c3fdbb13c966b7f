"""One OpenAPI document for both halves: Zalo's own paths, described here as data, and the control API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI

from simulator.zalo_api import BUSINESS_PATH, OAUTH_PATH, VIDEO_PATH

_DATA = Path(__file__).parent / "data"
_UPLOADS = ("/v2.0/oa/upload/", VIDEO_PATH)


def document(app: FastAPI) -> dict[str, Any]:
    """The whole contract; committed as docs/openapi/simulator.json."""
    if app.openapi_schema is None:
        described: list[dict[str, Any]] = yaml.safe_load((_DATA / "zalo_api.yaml").read_text(encoding="utf-8"))
        schema = FastAPI.openapi(app)
        paths: dict[str, Any] = {}
        for call in described:
            paths.setdefault(call["path"], {})[call["method"]] = _operation(call)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["security"] = []
        schema["paths"] = paths | schema["paths"]
        schema["servers"] = [{"url": "/", "description": "this simulator"}]
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"access_token": {"type": "apiKey", "in": "header", "name": "access_token"}}
        components["schemas"] |= _SCHEMAS
        app.openapi_schema = schema
    return app.openapi_schema


_SCHEMAS: dict[str, Any] = {
    "ZaloAnswer": {
        "title": "ZaloAnswer",
        "description": "Errors come with HTTP 200 too: `error` is negative then and there is no `data`.",
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "integer"}, "message": {"type": "string"}, "data": {}},
    },
    "OAuthAnswer": {
        "title": "OAuthAnswer",
        "type": "object",
        "properties": {
            "access_token": {"type": "string"},
            "refresh_token": {"type": "string"},
            "expires_in": {"type": "string", "description": "seconds"},
            "error": {"type": "integer"},
            "error_name": {"type": "string"},
            "error_reason": {"type": "string"},
            "error_description": {"type": "string"},
            "ref_doc": {"type": "string"},
        },
    },
}


def _operation(call: dict[str, Any]) -> dict[str, Any]:
    path, method = call["path"], call["method"]
    is_oauth = path == OAUTH_PATH
    operation: dict[str, Any] = {
        "tags": ["oauth" if is_oauth else "business" if path == BUSINESS_PATH else "oa"],
        "summary": call["summary"],
        "operationId": method + path.replace("/", "_").replace(".", "_"),
        "security": [] if is_oauth else [{"access_token": []}],
        "responses": {"200": _answer(is_oauth=is_oauth)},
    }
    if errors := call.get("errors"):
        operation["description"] = f"Answers beside the general errors: {', '.join(map(str, errors))}."
    if parameters := _parameters(call, is_oauth=is_oauth):
        operation["parameters"] = parameters
    if method == "post":
        operation["requestBody"] = {"required": True, "content": _content(call, is_oauth=is_oauth)}
    return operation


def _parameters(call: dict[str, Any], *, is_oauth: bool) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in call.get("query", [])
    ]
    if is_oauth:
        parameters.append({"name": "secret_key", "in": "header", "required": True, "schema": {"type": "string"}})
    if "data" in call:
        schema = {"type": "object", "properties": {name: {} for name in call["data"]}}
        content = {"application/json": {"schema": schema}}
        parameters.append({"name": "data", "in": "query", "description": "JSON, URL-encoded", "content": content})
    return parameters


def _content(call: dict[str, Any], *, is_oauth: bool) -> dict[str, Any]:
    if call["path"].startswith(_UPLOADS):
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        schema = {"type": "object", "required": ["file"], "properties": {"file": file}}
        return {"multipart/form-data": {"schema": schema}}
    if is_oauth:
        schema = {"type": "object", "properties": {name: {"type": "string"} for name in call["form"]}}
        return {"application/x-www-form-urlencoded": {"schema": schema}}
    return {"application/json": {"schema": {"type": "object"}, "example": call["body"]}}


def _answer(*, is_oauth: bool) -> dict[str, Any]:
    name = "OAuthAnswer" if is_oauth else "ZaloAnswer"
    answer: dict[str, Any] = {
        "description": "Success, or an error code in the body",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }
    if not is_oauth:
        answer["headers"] = {
            header: {"description": meaning, "schema": {"type": "string"}}
            for header, meaning in (
                ("X-RateLimit-Limit", "calls a minute"),
                ("X-RateLimit-Remain", "calls left in this minute"),
            )
        }
    return answer
