"""HTTPS with two settings: clients that are told of the authority push and pull, those that are not refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.target import CommandLine
from tests.parts.certificates import Certificates, make_certificates
from tests.parts.fixtures import require
from tests.parts.images import make_image, write_layout
from tests.parts.process import remove_folder, temporary_folder
from tests.parts.slipway import SlipwayProcess
from tests.parts.versions import program_path


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    folder = temporary_folder("tls")
    yield make_certificates(folder)
    remove_folder(folder)


@pytest.fixture(scope="module")
def https_slipway(certificates: Certificates) -> Iterator[SlipwayProcess]:
    settings = {
        "SLIPWAY_TLS_CERTIFICATE": str(certificates.certificate),
        "SLIPWAY_TLS_KEY": str(certificates.key),
    }
    process = SlipwayProcess(env=settings).start()
    yield process
    process.close()


def test_oras_pushes_and_pulls_over_https(
    https_slipway: SlipwayProcess, certificates: Certificates, tmp_path: Path
) -> None:
    require("oras")
    oras = CommandLine(str(program_path("oras")), tmp_path / "home")
    trust = ("--ca-file", str(certificates.authority))
    login = ("login", "-u", "admin", "--password-stdin", https_slipway.host)
    oras.run(*login, *trust, stdin=https_slipway.password)

    image = make_image("over https")
    layout = write_layout(tmp_path / "layout", {"1": image})
    reference = f"{https_slipway.host}/acme/tls:1"
    oras.run("cp", "--no-tty", "--from-oci-layout", f"{layout}:1", "--to-ca-file", *trust[1:], reference)
    assert oras.run("resolve", *trust, reference) == image.digest
    oras.run("cp", "--no-tty", "--from-ca-file", *trust[1:], reference, "--to-oci-layout", f"{tmp_path}/pulled:1")

    distrustful = oras.attempt("resolve", reference)
    assert distrustful.returncode != 0
    assert "certificate" in distrustful.stderr


def test_skopeo_pushes_and_pulls_over_https(
    https_slipway: SlipwayProcess, certificates: Certificates, tmp_path: Path
) -> None:
    require("skopeo")
    skopeo = CommandLine("skopeo", tmp_path / "home")
    image = make_image("skopeo over https")
    layout = write_layout(tmp_path / "layout", {"1": image})
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(certificates.authority.read_bytes())
    reference = f"docker://{https_slipway.host}/acme/tls:2"
    credentials = f"admin:{https_slipway.password}"

    skopeo.run(
        "copy", "--insecure-policy", "--preserve-digests", "--dest-cert-dir", str(trusted),
        "--dest-creds", credentials, f"oci:{layout}:1", reference,
    )  # fmt: skip
    inspected = skopeo.run(
        "inspect", "--format", "{{.Digest}}", "--cert-dir", str(trusted), "--creds", credentials, reference
    )
    assert inspected == image.digest
