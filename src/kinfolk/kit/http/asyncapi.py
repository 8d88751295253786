"""The AsyncAPI 3 document, made of the lanes and the shapes they take, and of the events that a WebSocket tells."""

from collections.abc import Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from kinfolk import __version__
from kinfolk.kit.auth import Rules
from kinfolk.kit.http.audience import MISSED
from kinfolk.kit.http.guard import WEBSOCKET
from kinfolk.kit.http.websocket import LARGEST_MESSAGE_BYTES, Saying
from kinfolk.kit.lanes import Lane

REF = "#/components/schemas/{name}"
HEADERS = {
    "type": "object",
    "properties": {
        "x-request-id": {
            "type": "string",
            "description": "What the log calls the work that the message sets off, and all that follows from it.",
        }
    },
}


SOCKET = "events"


class Echo(msgspec.Struct):
    """What was said."""

    echo: str


def document(lanes: Sequence[Lane], events: Rules) -> dict[str, Any]:
    """The whole document: a channel, a message and an operation for each lane, and a channel for events."""
    shapes = [*(lane.shape for lane in lanes), Saying, Echo]
    refs, schemas = msgspec.json.schema_components(shapes, ref_template=REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kinfolk",
            "version": __version__,
            "description": (
                "Messages that Kinfolk takes from RabbitMQ, whose effect happens once for each message id, and events "
                "that it tells over a WebSocket."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {lane.name: _channel(lane) for lane in lanes} | {SOCKET: _socket()},
        "operations": {lane.operation.__name__ + "." + lane.name: _operation(lane) for lane in lanes}
        | {
            "tell": _over_socket("send", "Tell what has changed, and echo what is said.", "event", "echo"),
            "hear": _over_socket("receive", "Take what is said.", "say"),
        },
        "components": {
            "messages": {lane.name: _message(lane, ref) for lane, ref in zip(lanes, refs, strict=False)}
            | {"event": _event(events), "say": _text(refs[-2]), "echo": _text(refs[-1])},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _channel(lane: Lane) -> dict[str, Any]:
    """By its routing key; the queue is ours to declare, the exchange is what a sender names."""
    exchange = {"name": lane.exchange, "type": "direct", "durable": True}
    return {
        "address": lane.name,
        "messages": {lane.name: {"$ref": f"#/components/messages/{lane.name}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _operation(lane: Lane) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{lane.name}"},
        "summary": cleandoc(lane.operation.__doc__ or "").partition("\n\n")[0],
        "messages": [{"$ref": f"#/channels/{lane.name}/messages/{lane.name}"}],
        "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
    }


def _message(lane: Lane, ref: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": lane.name,
        "contentType": "application/json",
        "headers": HEADERS,
        "payload": ref,
        "x-parked-in": lane.parking,
        "x-tried-again-after-seconds": list(lane.delays_seconds),
    }


def _socket() -> dict[str, Any]:
    return {
        "address": WEBSOCKET,
        "description": f"A WebSocket of UTF-8 text; messages of up to {LARGEST_MESSAGE_BYTES:,} bytes are taken.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ("event", "say", "echo")},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _over_socket(action: str, summary: str, *messages: str) -> dict[str, Any]:
    channel = f"#/channels/{SOCKET}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in messages],
    }


def _event(events: Rules) -> dict[str, Any]:
    fields = {
        "name": {"type": "string", "enum": [*sorted(events), MISSED]},
        "when": {"type": "string", "format": "date-time"},
        "what": {"type": "object", "description": "Ids and counts of what has changed."},
    }
    return _text({"type": "object", "properties": fields, "required": list(fields)})


def _text(payload: dict[str, Any]) -> dict[str, Any]:
    return {"contentType": "application/json", "payload": payload}
