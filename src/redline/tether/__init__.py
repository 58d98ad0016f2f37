"""The tether: the only wire out of a cell, from a process that proves to hold the weights to the model under test."""

from redline.tether.broker import Broker, CallInfo, Generate, Generated
from redline.tether.caps import Caps
from redline.tether.endpoint import SOCKET_NAME, Place, Relay, places_of
from redline.tether.expectation import Expectation
from redline.tether.http import HttpFault, HttpReply, get, post_json
from redline.tether.lineage import Engine
from redline.tether.protocol import Message
from redline.tether.record import CallRecord, EngineRecord, Incident, TetherRecord

__all__ = [
    "SOCKET_NAME",
    "Broker",
    "CallInfo",
    "CallRecord",
    "Caps",
    "Engine",
    "EngineRecord",
    "Expectation",
    "Generate",
    "Generated",
    "HttpFault",
    "HttpReply",
    "Incident",
    "Message",
    "Place",
    "Relay",
    "TetherRecord",
    "get",
    "places_of",
    "post_json",
]
