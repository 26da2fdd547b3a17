"""The OpenAPI description, made from the typed requests and answers, and a page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ringkas.runtimes.serve.protocol import Answer, Request
from ringkas.version import __version__

_INPUT = {
    "description": "A text, texts, token ids, or lists of token ids (the model's own, with special ones).",
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
    ],
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSALS = {
    "400": "What is asked for does not exist, or is over a limit.",
    "401": "The API key is missing or wrong.",
    "404": "There is no such model.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "429": "The queue or the memory is full; Retry-After says in how many seconds to come back.",
}


def describe(models: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with these models."""
    (_, _), schemas = msgspec.json.schema_components(
        [Request, Answer], ref_template="#/components/schemas/{name}"
    )
    schemas["Request"]["properties"]["input"] = _INPUT
    schemas["Request"]["properties"]["model"] = {"type": "string", "enum": list(models)}
    schemas["Error"] = _ERROR
    answers: dict[str, Any] = {"200": _content("The vectors, in the order of the input.", "Answer")}
    answers |= {status: _content(said, "Error") for status, said in _REFUSALS.items()}
    paths: dict[str, Any] = {
        "/v1/embeddings": {
            "post": {
                "summary": "Vectors of texts",
                "requestBody": {"required": True, **_content("", "Request")},
                "responses": answers,
                "security": [{"key": []}, {}],
            }
        }
    }
    for path, said in _GETS.items():
        paths[path] = {"get": {"summary": said, "responses": {"200": {"description": said}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ringkas", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_GETS = {
    "/v1/models": "The models, and each with the prompts it has",
    "/health": "The process is alive",
    "/ready": "The models are loaded",
    "/metrics": "Counts for Prometheus",
}


def _content(said: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": said, "content": content} if said else {"content": content}


# It fetches nothing from elsewhere: a server is often where nothing else can be reached.
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ringkas</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
pre{overflow:auto;font-size:.85rem}</style></head><body><h1>ringkas</h1>
<p>The API as <a href="openapi.json">OpenAPI</a>:</p><div id="paths"></div><script>
fetch("openapi.json").then(r => r.json()).then(api => {
  const place = document.getElementById("paths");
  const add = (tag, text) => place.append(Object.assign(document.createElement(tag), {textContent: text}));
  for (const [path, verbs] of Object.entries(api.paths)) for (const [verb, one] of Object.entries(verbs)) {
    add("h2", verb.toUpperCase() + " " + path); add("p", one.summary);
    for (const [status, said] of Object.entries(one.responses)) add("p", status + ": " + said.description);
  }
  add("h2", "Schemas"); add("pre", JSON.stringify(api.components.schemas, null, 1));
});</script></body></html>
"""
