"""The port is taken before anything slow happens, or refused with the option to change."""

import socket

import pytest

from app.process.listener import CannotListen, open_socket, url_of


def test_port_zero_takes_a_free_port():
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert url_of(listener) == f"http://127.0.0.1:{port}"


def test_bound_socket_accepts_nobody_before_the_server_listens():
    with open_socket("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname())


def test_port_in_use_is_refused_naming_the_option():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"port {port} .*in use.*--port"):
            open_socket("127.0.0.1", port)


def test_foreign_address_is_refused_naming_the_option():
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1.*--host"):
        open_socket("192.0.2.1", 0)


def test_unresolvable_host_is_refused_naming_the_option():
    with pytest.raises(CannotListen, match=r"cannot resolve.*--host"):
        open_socket("no such host", 0)
