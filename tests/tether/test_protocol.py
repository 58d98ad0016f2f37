import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.tether.caps import Caps
from redline.tether.protocol import (
    Call,
    Frame,
    FrameBuffer,
    Message,
    OversizeError,
    Proof,
    ProtocolError,
    Prove,
    Refused,
    Reply,
    decode,
    encode,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
messages = st.builds(Message, role=roles, content=texts)
ranges = st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 2**40)), max_size=5).map(tuple)
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Call, messages=st.lists(messages, max_size=4).map(tuple), max_tokens=st.integers(1, 10**9)),
    st.builds(Prove, mode=st.sampled_from(["spot", "whole"]), nonce=hexes, ranges=ranges),
    st.builds(Proof, value=hexes),
    st.builds(Reply, content=texts),
    st.builds(Refused, reason=texts),
)


@given(frames)
def test_a_frame_is_decoded_as_it_was_encoded(frame: Frame) -> None:
    buffer = FrameBuffer(limit=2**20)
    buffer.feed(encode(frame))
    body = buffer.next()
    assert body is not None
    assert decode(body) == frame
    assert buffer.next() is None


@given(st.lists(frames, min_size=1, max_size=4), st.data())
def test_frames_are_the_same_however_the_stream_is_split(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(frame) for frame in sent)
    buffer, received = FrameBuffer(limit=2**20), []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        buffer.feed(stream[:count])
        stream = stream[count:]
        while (body := buffer.next()) is not None:
            received.append(decode(body))
    assert received == sent


@given(frames, st.data())
def test_a_truncated_frame_is_incomplete(frame: Frame, data: st.DataObject) -> None:
    wire = encode(frame)
    buffer = FrameBuffer(limit=2**20)
    buffer.feed(wire[: data.draw(st.integers(0, len(wire) - 1))])
    assert buffer.next() is None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    try:
        frame = decode(body)
    except ProtocolError:
        return
    assert decode(encode(frame)[4:]) == frame


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    )
)
def test_json_that_is_not_a_frame_is_a_protocol_error(value: object) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps(value).encode())


@given(st.integers(11, 2**32 - 1))
def test_an_announced_length_over_the_limit_is_refused_before_its_bytes_arrive(size: int) -> None:
    buffer = FrameBuffer(limit=10)
    buffer.feed(size.to_bytes(4, "big"))
    with pytest.raises(OversizeError):
        buffer.next()


@pytest.mark.parametrize(
    "body",
    [
        '{"type": "call", "messages": [], "max_tokens": 0}',
        '{"type": "call", "messages": [], "max_tokens": "5"}',
        '{"type": "call", "messages": [{"role": "nobody", "content": ""}]}',
        '{"type": "call", "messages": [{"role": "user", "content": null}]}',
        '{"type": "call", "messages": [{"role": "user", "content": "\\ud800"}]}',
        '{"type": "proof", "value": "AB"}',
        '{"type": "proof"}',
        '{"type": "shutdown"}',
        "[" * 100_000,
    ],
)
def test_frames_with_a_fault_are_refused(body: str) -> None:
    with pytest.raises(ProtocolError):
        decode(body.encode())


def test_unknown_fields_are_ignored() -> None:
    body = b'{"type": "call", "messages": [{"role": "user", "content": "hi", "name": "x"}], "temperature": 0.5}'
    assert decode(body) == Call(messages=(Message(role="user", content="hi"),))


FRAME_BYTES = Caps.default().frame_bytes


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"call","messages":[' + b"1," * (FRAME_BYTES // 2 - 40) + b"1]}",
        b'{"type":"call","messages":[' + b"{}," * (FRAME_BYTES // 3 - 40) + b"{}]}",
        b'{"type":"call","messages":['
        + b'{"role":"user","content":""},' * (FRAME_BYTES // 29 - 40)
        + b'{"role":"user","content":""}]}',
        b'{"type":"call",' + b",".join(b'"%d":0' % i for i in range(FRAME_BYTES // 10)) + b"}",
        b'{"type":"prove","mode":"spot","nonce":"","ranges":[' + b"[-1,0]," * (FRAME_BYTES // 7 - 40) + b"[-1,0]]}",
        b"[" * FRAME_BYTES,
    ],
    ids=["numbers", "objects", "messages", "fields", "ranges", "depth"],
)
def test_a_costly_message_is_refused_quickly(body: bytes) -> None:
    assert len(body) <= FRAME_BYTES
    began = time.thread_time()
    with pytest.raises(ProtocolError):
        decode(body)
    assert time.thread_time() - began < 0.5
