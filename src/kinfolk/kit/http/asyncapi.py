"""The AsyncAPI 3 document, made of the lanes and of the shapes they take."""

from collections.abc import Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from kinfolk import __version__
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


def document(lanes: Sequence[Lane]) -> dict[str, Any]:
    """The whole document: a channel, a message and an operation for each lane."""
    refs, schemas = msgspec.json.schema_components([lane.shape for lane in lanes], ref_template=REF)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kinfolk",
            "version": __version__,
            "description": "Messages that Kinfolk takes. The effect of each happens once for each message id.",
        },
        "defaultContentType": "application/json",
        "channels": {lane.name: _channel(lane) for lane in lanes},
        "operations": {lane.operation.__name__ + "." + lane.name: _operation(lane) for lane in lanes},
        "components": {
            "messages": {lane.name: _message(lane, ref) for lane, ref in zip(lanes, refs, strict=True)},
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
