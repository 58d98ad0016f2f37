"""The tether: the only connection out of a cell, from a process that holds the weights to the model under test."""

from redline.tether.broker import Broker
from redline.tether.caps import Caps
from redline.tether.endpoint import SOCKET_NAME, ListenAddress, Relay, listen_addresses
from redline.tether.expectation import Expectation
from redline.tether.http import HttpFault, HttpReply, NoAnswerFault, get, post_json
from redline.tether.lineage import Engine
from redline.tether.model_calls import CallInfo, Generate, Generated
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
    "NoAnswerFault",
    "HttpReply",
    "Incident",
    "ListenAddress",
    "Message",
    "Relay",
    "TetherRecord",
    "get",
    "listen_addresses",
    "post_json",
]
