"""Each kind of store in the config opens as the store that it names."""

import subprocess
import sys
from pathlib import Path

from restore_lib.config_tables import LocalStoreConfig, S3StoreConfig, SftpStoreConfig
from restore_lib.stores.local import LocalStore
from restore_lib.stores.open import open_store
from restore_lib.stores.s3 import S3Store
from restore_lib.stores.sftp import SftpStore
from tests.stores.conftest import get, keys, put
from tests.support.s3server import S3Server
from tests.support.sshd import Sshd


def test_a_folder(tmp_path: Path) -> None:
    store = open_store("disk", LocalStoreConfig(kind="local", path=tmp_path))
    assert isinstance(store, LocalStore)
    put(store, b"key")
    assert (store.name, get(store, b"key")) == ("disk", b"data")


def test_a_bucket(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    config = S3StoreConfig(
        kind="s3",
        bucket=bucket,
        prefix="live/",
        endpoint_url=s3_server.endpoint_url,
        region="us-east-1",
    )
    store = open_store("cloud", config)
    assert isinstance(store, S3Store)
    put(store, b"key")
    assert keys(s3_server.store(bucket)) == [b"live/key"]


def test_a_server(sshd: Sshd, tmp_path: Path) -> None:
    config = SftpStoreConfig(
        kind="sftp",
        host=sshd.host,
        port=sshd.port,
        user=sshd.user,
        path=str(tmp_path),
        known_hosts=sshd.known_hosts,
        key_file=sshd.key_file,
    )
    store = open_store("remote", config)
    assert isinstance(store, SftpStore)
    put(store, b"key")
    store.close()
    assert (tmp_path / "key").read_bytes() == b"data"


def test_no_library_is_imported_for_another_kind() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from restore_lib.config_tables import LocalStoreConfig\n"
        "from restore_lib.stores.open import open_store\n"
        "open_store('disk', LocalStoreConfig(kind='local', path=Path('.')))\n"
        "assert not {'boto3', 'paramiko'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
