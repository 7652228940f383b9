"""TLS and mTLS of the gRPC port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from serving.model_server.core.errors import StatusError
from serving.model_server.process import config_files
from tests.serving.certificates import Authority
from tests.serving.process import Server
from tests.serving.stubs import Stubs


def write(path: Path, key: bytes, certificate: bytes, authority: bytes | None) -> Path:
    """An SSLConfig with PEM texts, as TensorFlow Serving wants them."""

    def quoted(pem: bytes) -> str:
        return '"' + pem.decode().replace("\n", "\\n") + '"'

    text = f"server_key: {quoted(key)}\nserver_cert: {quoted(certificate)}\n"
    if authority is not None:
        text += f"custom_ca: {quoted(authority)}\nclient_verify: true\n"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_mutual_tls_lets_only_known_clients_in(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    ours, foreign = Authority(), Authority()
    config = write(tmp_path / "ssl.config", *ours.issue("server"), ours.certificate)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "1").symlink_to(exports[1])
    server = start(tmp_path / "models", f"--ssl_config_file={config}").wait_serving(1)
    assert {one.port for one in listening(server)} == {server.port}

    def ask(key: bytes | None, certificate: bytes | None, roots: bytes) -> None:
        credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
            Stubs(channel=channel).predict("embed_text", {"text": ["a"]}, timeout=5)

    key, certificate = ours.issue("client")
    ask(key, certificate, ours.certificate)
    for wrong in (
        (None, None, ours.certificate),
        (*foreign.issue("client"), ours.certificate),
        (key, certificate, foreign.certificate),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            ask(*wrong)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.RpcError):
        Stubs(server.port).predict("embed_text", {"text": ["a"]}, timeout=5)  # in the clear


def listening(server: Server) -> list[Any]:
    """Addresses (ip, port) at which a server listens."""
    connections = psutil.Process(server.process.pid).net_connections()
    return [one.laddr for one in connections if one.status == psutil.CONN_LISTEN]


def test_both_ports_listen_where_host_says(rest: Server) -> None:
    assert {one.port for one in listening(rest)} == {rest.port, rest.rest_port}
    assert {one.ip.removeprefix("::ffff:") for one in listening(rest)} <= {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_keys_that_do_not_fit_are_refused_before_anything_is_loaded(
    start: Callable[..., Server], exports: dict[int, Path], tmp_path: Path
) -> None:
    ours = Authority()
    key, _ = ours.issue("server")
    _, certificate = ours.issue("another")
    config = write(tmp_path / "ssl.config", key, certificate, None)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "1").symlink_to(exports[1])
    server = start(tmp_path / "models", f"--ssl_config_file={config}")
    assert server.process.wait(timeout=180) == 1
    text = server.log.read_text()
    assert text.splitlines()[-1] == f"--ssl_config_file: {config}: gRPC refuses its keys"
    assert "loaded version" not in text


def test_wrong_ssl_file(tmp_path: Path) -> None:
    key, certificate = Authority().issue("server")
    path = write(tmp_path / "ssl.config", key, certificate, None)
    assert config_files.read_ssl(str(path)).client_authority is None
    for text, reason in (
        (path.read_text() + "client_verify: true", "client_verify: needs custom_ca"),
        ('server_key: "/etc/key.pem"', "server_key: is not the text of a PEM file"),
        ("server_key: 5", "SSLConfig: 1:13: "),
    ):
        path.write_text(text)
        with pytest.raises(StatusError) as raised:
            config_files.read_ssl(str(path))
        assert reason in raised.value.message
