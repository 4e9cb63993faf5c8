"""Viewers of VNC and SPICE, as far as showing that a server is there and wants its password."""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import struct

_VNC_PASSWORD = 2  # the security type with DES (RFC 6143, 7.2.2)
_SPICE_MAIN, _SPICE_DENIED = 1, 7  # channel type, link error (spice/enums.h, spice/error_codes.h)
_SPICE_KEY, _SPICE_TICKET = 162, 128  # bytes: an RSA key and what is encrypted with it


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, "the server hung up"
        data += more
    return data


def _encrypt(challenge: bytes, password: str) -> bytes:
    """The answer to a challenge: DES, whose key is the password with the bits of each byte turned.

    OpenSSL's DES, which Python has with it.
    """
    crypto = ctypes.CDLL("libcrypto.so.3")
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    schedule = ctypes.create_string_buffer(128)
    crypto.DES_set_key_unchecked(key, schedule)
    answer = b""
    for block in (challenge[:8], challenge[8:]):
        out = ctypes.create_string_buffer(8)
        crypto.DES_ecb_encrypt(block, out, schedule, 1)
        answer += out.raw
    return answer


def see_vnc(client: socket.socket, password: str) -> tuple[int, int] | None:
    """The width and height of a guest's screen; None if the password is refused (RFC 6143)."""
    client.setblocking(True)
    client.settimeout(120)
    assert _read(client, 12) == b"RFB 003.008\n"
    client.sendall(b"RFB 003.008\n")
    (count,) = _read(client, 1)
    assert list(_read(client, count)) == [_VNC_PASSWORD]
    client.sendall(bytes([_VNC_PASSWORD]))
    client.sendall(_encrypt(_read(client, 16), password))
    (refused,) = struct.unpack(">I", _read(client, 4))
    if refused:
        return None
    client.sendall(b"\1")  # others may watch, too
    width, height = struct.unpack(">HH", _read(client, 4))
    return width, height


def _mask(seed: bytes, length: int) -> bytes:
    """MGF1 of RFC 8017, with SHA-1."""
    blocks = (hashlib.sha1(seed + bytes([0, 0, 0, n])).digest() for n in range(length // 20 + 1))  # noqa: S324
    return b"".join(blocks)[:length]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _make_ticket(key: bytes, password: str) -> bytes:
    """A password as SPICE sends it: RSAES-OAEP with SHA-1 (RFC 8017, 7.1.1), a NUL at its end."""
    modulus, exponent = int.from_bytes(key[29:157], "big"), int.from_bytes(key[159:162], "big")
    message = b"\1" + password.encode() + b"\0"
    block = hashlib.sha1(b"").digest() + message.rjust(_SPICE_TICKET - 41, b"\0")  # noqa: S324
    seed = os.urandom(20)
    masked = _xor(block, _mask(seed, len(block)))
    padded = _xor(seed, _mask(masked, len(seed))) + masked
    ticket = pow(int.from_bytes(padded, "big"), exponent, modulus)
    return ticket.to_bytes(_SPICE_TICKET, "big")


def is_let_in_by_spice(client: socket.socket, password: str) -> bool:
    """Whether a SPICE server takes a link, and with it this password (spice protocol)."""
    client.setblocking(True)
    client.settimeout(120)
    body = struct.pack("<IBBIII", 0, _SPICE_MAIN, 0, 0, 0, 18)
    client.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(body)) + body)
    magic, _, _, size = struct.unpack("<4sIII", _read(client, 16))
    reply = _read(client, size)
    assert magic == b"REDQ"
    assert struct.unpack_from("<I", reply) == (0,)
    client.sendall(_make_ticket(reply[4 : 4 + _SPICE_KEY], password))
    (error,) = struct.unpack("<I", _read(client, 4))
    assert error in (0, _SPICE_DENIED)
    return bool(error == 0)
