import pytest

from frost_sidecar.model import TlsFiles
from frost_sidecar.testing.authority import Authority


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def client_files(authority: Authority) -> TlsFiles:
    return authority.issue("coordinator", ["coordinator.test"])


@pytest.fixture(scope="session")
def server_files(authority: Authority) -> TlsFiles:
    return authority.issue("signer-1", ["signer-1.test", "127.0.0.1", "spiffe://frost.test/signer/1"])
